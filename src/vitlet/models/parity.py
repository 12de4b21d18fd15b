"""Does vitlet's path give what the source library gives? Preprocessing and logits, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlet.data.preprocess import preprocess
from vitlet.errors import HubUnreachable, Unsupported
from vitlet.models.reference import parse
from vitlet.records import Classifier, Parity

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class _Library:
    """The source library's own way: ``transform`` makes [3, height, width] of an image, ``logits``
    [batch, classes] of a batch. ``module`` is what of vitlet's is compared with it.
    """

    name: str
    transform: Callable[[PIL.Image.Image], Tensor] | None
    logits: Callable[[Tensor], Tensor]
    module: nn.Module
    remark: str = ""


def check_parity(classifier: Classifier, images: Sequence[PIL.Image.Image]) -> Parity:
    """Load the classifier's reference with the library it comes from, and compare on RGB images
    the preprocessed tensors, and the logits for the same (vitlet's) tensor.

    Without images the logits are compared on one random input. A model of vitlet's own has nothing
    to be compared with; then ``reason`` says so, as it does for anything else that was not, or not
    quite, compared.

    Raises:
        ModelNotFound, ModelUnreadable, HubUnreachable: the reference cannot be had any more.
    """
    if classifier.library not in _LIBRARIES:
        return Parity(classifier.library, reason="vitlet's own path is the only one there is for this model")
    try:
        library = _LIBRARIES[classifier.library](classifier)
    except (Unsupported, HubUnreachable) as error:
        return Parity(classifier.library, reason=str(error))
    ours = [preprocess(image, classifier.image_spec) for image in images]
    spec = classifier.image_spec
    inputs = ours or [np.random.default_rng(0).standard_normal((3, spec.height, spec.width), dtype=np.float32)]
    remarks = [library.remark, "" if images else "no images were given, so the logits are of a random input"]
    return Parity(
        library=library.name,
        images=len(images),
        preprocessing_max_abs=_preprocessing_difference(library, images, ours),
        logits_max_abs=_logits_difference(library, inputs),
        reason="; ".join(filter(None, remarks)),
    )


def _preprocessing_difference(
    library: _Library, images: Sequence[PIL.Image.Image], ours: Sequence[np.ndarray]
) -> float | None:
    if library.transform is None or not images:
        return None
    theirs = [np.asarray(library.transform(image), dtype=np.float32) for image in images]
    for their, our in zip(theirs, ours, strict=True):
        if their.shape != our.shape:
            return float("inf")
    return max(float(np.abs(their - our).max()) for their, our in zip(theirs, ours, strict=True))


def _logits_difference(library: _Library, inputs: Sequence[np.ndarray]) -> float:
    import torch

    worst = 0.0
    with torch.inference_mode():
        for single in inputs:
            batch = torch.from_numpy(single)[None]
            difference = (library.module(batch) - library.logits(batch)).abs().max()
            worst = max(worst, float(difference) if bool(torch.isfinite(difference)) else float("inf"))
    return worst


def _timm(classifier: Classifier) -> _Library:
    import timm
    import timm.data

    from vitlet.models.timm import create, resolve

    name = parse(classifier.reference).name
    source = resolve(name)
    spec = classifier.image_spec
    native = tuple(source.cfg.get("input_size") or (3, 224, 224))[1:]
    size = None if native == (spec.height, spec.width) else spec.height
    model: Any = create(name, source, pretrained=not classifier.random_weights, seed=classifier.seed, image_size=size)
    cfg = dict(model.pretrained_cfg)
    data: Any = timm.data  # it exports these without saying so
    settings = data.resolve_data_config(args={"input_size": (3, spec.height, spec.width)}, pretrained_cfg=cfg)
    transform = data.create_transform(**settings, is_training=False)
    return _Library(f"timm {timm.__version__}", transform, model, classifier.module)


def _deit(classifier: Classifier) -> _Library:
    import timm
    from torchvision import transforms

    from vitlet.models.deit import checkpoint_path
    from vitlet.models.pickle_file import read_state_dict
    from vitlet.models.timm import create, resolve

    name = parse(classifier.reference).name
    size = classifier.image_spec.height
    model: Any = create(name, resolve(name), pretrained=False, seed=classifier.seed, image_size=size)
    if not classifier.random_weights:
        state = read_state_dict(checkpoint_path(name))
        state["pos_embed"] = _resized_like_deit(state["pos_embed"], model.pos_embed, model.num_prefix_tokens)
        model.load_state_dict(state)
    mean, std = classifier.image_spec.mean, classifier.image_spec.std
    # The evaluation transform of DeiT's datasets.py.
    transform = transforms.Compose(
        [
            transforms.Resize(int(256 / 224 * size), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return _Library(f"timm {timm.__version__} with DeiT's weights and transform", transform, model, classifier.module)


def _resized_like_deit(stored: Tensor, wanted: Tensor, prefix: int) -> Tensor:
    """DeiT's main.py, for another resolution: bicubic without antialiasing, prefix tokens kept."""
    import torch
    from torch.nn import functional as F

    if stored.shape == wanted.shape:
        return stored
    old, new = (round((positions.shape[1] - prefix) ** 0.5) for positions in (stored, wanted))
    square = stored[:, prefix:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([stored[:, :prefix], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _hf(classifier: Classifier) -> _Library:
    from vitlet.models.hf import HfRepository, convert
    from vitlet.models.hf_config import native_size

    try:
        import transformers
    except ImportError as error:
        raise Unsupported(
            'transformers is not installed, so there is nothing to compare with; pip install "vitlet[hf]"'
        ) from error
    repository = HfRepository.named(parse(classifier.reference).name)
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(repository.folder or repository.name)}
    if repository.revision:
        where["revision"] = repository.revision
    with _quiet_transformers(transformers):
        model = _transformers_model(transformers, where, classifier)
        transform, name, remark = _transformers_processor(transformers, where)
    module = classifier.module
    if classifier.random_weights:
        kind = type(model).__name__
        module = convert(model.state_dict(), classifier.architecture, kind, origin=classifier.reference)  # type: ignore[arg-type]
        remark = "; ".join(filter(None, [remark, "random weights: the conversion of transformers' own was compared"]))
    native = native_size(model.config.to_dict(), origin=classifier.reference)
    spec = classifier.image_spec
    # DINOv2 interpolates by itself.
    resized = native != (spec.height, spec.width) and not model.config.model_type.startswith("dinov2")
    options = {"interpolate_pos_encoding": True} if resized else {}
    size_is_native = transform is None or _makes(transform, spec.height, spec.width)
    if not size_is_native:
        transform, remark = None, "; ".join(filter(None, [remark, "its processor makes images of another size"]))
    return _Library(name, transform, lambda batch: model(batch, **options).logits, module, remark)


def _makes(transform: Callable[[Any], Tensor], height: int, width: int) -> bool:
    from PIL import Image

    return tuple(transform(Image.new("RGB", (width + 3, height + 1))).shape[-2:]) == (height, width)


def _transformers_model(transformers: Any, where: dict[str, Any], classifier: Classifier) -> Any:
    import torch

    auto = transformers.AutoModelForImageClassification
    kind = _transformers_class(transformers, where)
    try:
        if not classifier.random_weights:
            return (kind or auto).from_pretrained(**where).eval()
        config = transformers.AutoConfig.from_pretrained(**where)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(classifier.seed)
            return (kind(config) if kind else auto.from_config(config)).eval()
    except (OSError, ValueError) as error:
        raise Unsupported(f"transformers cannot load {classifier.reference}: {str(error).splitlines()[0]}") from error


def _transformers_class(transformers: Any, where: dict[str, Any]) -> Any:
    # AutoModel picks one class for a model type; DeiT has two, and the config names the right one.
    config = transformers.AutoConfig.from_pretrained(**where)
    return getattr(transformers, (config.architectures or [""])[0], None)


def _transformers_processor(
    transformers: Any, where: dict[str, Any]
) -> tuple[Callable[[Any], Tensor] | None, str, str]:
    library = f"transformers {transformers.__version__}"
    auto = transformers.AutoImageProcessor
    # "backend" since transformers 5, "use_fast" before: the processor that resamples with PIL.
    choice = {"backend": "pil"} if int(transformers.__version__.partition(".")[0]) >= 5 else {"use_fast": False}
    try:
        processor = auto.from_pretrained(**where, **choice)
    except (OSError, ValueError, ImportError, KeyError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return None, library, f"its image processor cannot be had: {lines[0]}"

    def transform(image: PIL.Image.Image) -> torch.Tensor:
        batch: Tensor = processor(image, return_tensors="pt")["pixel_values"]
        return batch[0]

    return transform, f"{library} with its PIL image processor", ""


@contextmanager
def _quiet_transformers(transformers: Any) -> Iterator[None]:
    """Keep transformers' progress bars and remarks off the terminal, and put its settings back."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_LIBRARIES: dict[str, Callable[[Classifier], _Library]] = {"timm": _timm, "hf": _hf, "deit": _deit}
