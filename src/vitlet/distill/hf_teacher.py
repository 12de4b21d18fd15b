"""Any Hugging Face image classifier as a teacher, run by transformers itself (the extra ``hf``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from vitlet.distill.teacher import Teacher, of_module
from vitlet.errors import ModelUnreadable, Unsupported
from vitlet.models.hf import HfRepository
from vitlet.models.hub import hub_errors
from vitlet.records import ImageSpec, ProgressCallback, no_progress

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def load_hf_teacher(name: str, *, progress: ProgressCallback = no_progress) -> Teacher:
    """``owner/name`` (``@revision``) or a folder, by ``AutoModelForImageClassification``; never runs a
    repository's own code, never unpickles.

    Raises:
        Unsupported: transformers is missing, or this is no image classifier.
        ModelNotFound, ModelUnreadable, HubUnreachable: it cannot be had.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise Unsupported("this teacher needs transformers; install it with: pip install 'vitlet[hf]'") from error
    source = HfRepository.named(name)
    if all(source.file(filename) is None for filename in _PROCESSORS):
        raise Unsupported(f"hf:{name} is no image classifier of transformers (it has no {_PROCESSORS[0]})")
    if all(source.file(filename, progress) is None for filename in _WEIGHTS):
        raise ModelUnreadable(
            f"hf:{name} has no weights as safetensors, and pickled ones can run code: convert them, or take a "
            "repository that holds model.safetensors"
        )
    place, options = str(source.folder or source.name), {"revision": source.revision} if source.revision else {}
    with hub_errors(source.name):
        try:
            read: Any = AutoImageProcessor.from_pretrained
            processor = read(place, trust_remote_code=False, **options)
            read = AutoModelForImageClassification.from_pretrained
            model = read(place, trust_remote_code=False, use_safetensors=True, **options).float()
        except (ValueError, KeyError, ImportError) as error:
            raise Unsupported(f"hf:{name} is no image classifier of transformers ({_line(error)})") from error
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and source.folder is None:
                raise  # of the hub
            raise ModelUnreadable(f"hf:{name} cannot be loaded ({_line(error)})") from error
    if getattr(processor, "do_flip_channel_order", False):
        raise Unsupported(f"hf:{name} takes images in the order blue, green, red; vitlet feeds RGB")
    labels = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
    teacher = of_module(f"hf:{name}", model, _spec(processor, model.config), labels)

    def answer(images: Tensor) -> Tensor:
        logits: Tensor = model(pixel_values=images).logits
        return logits

    return replace(teacher, answer=answer)


def _spec(processor: Any, config: Any) -> ImageSpec:
    """Size, mean and standard deviation: all that matters for images that are cropped already."""
    cropped = getattr(processor, "do_center_crop", None) is not False and getattr(processor, "crop_size", None)
    asked = cropped or getattr(processor, "size", None) or {}
    native = int(getattr(config, "image_size", 224))
    edge = int(asked["shortest_edge"]) if "shortest_edge" in asked else native
    height, width = (int(asked[side]) if side in asked else edge for side in ("height", "width"))
    # What a byte of 255 is before mean and deviation: 1 where the processor is as most are.
    white = 255 * float(getattr(processor, "rescale_factor", None) or 1 / 255)
    white = 255.0 if getattr(processor, "do_rescale", None) is False else white
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if getattr(processor, "do_normalize", None) is False or mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    scaled: list[Any] = [tuple(value / white for value in values) for values in (mean, std)]
    return ImageSpec(height, width, (height, width), mean=scaled[0], std=scaled[1])


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
