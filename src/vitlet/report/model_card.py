"""The bundle as a model card: Markdown with the metadata that the Hugging Face Hub reads.

The form is that of https://huggingface.co/docs/hub/model-cards; the metadata are written by ``huggingface_hub`` itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from vitlet.bundle.manifest import Manifest
from vitlet.bundle.shipped.runtime import OPENERS
from vitlet.certify.sentences import latency_sentence, sentence
from vitlet.measure.statistics import latency_summary
from vitlet.records import Measurement

NAME = "README.md"
#: Labels that are named; the manifest has all.
_LABELS = 20


def render_model_card(manifest: Manifest) -> str:
    """The text of ``README.md``."""
    return f"---\n{_metadata(manifest)}\n---\n\n" + "\n".join(_lines(manifest)) + "\n"


def _metadata(manifest: Manifest) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    chosen = manifest.measurements[manifest.chosen]
    found = []
    if chosen.top1 is not None and not manifest.random_weights:
        found.append(
            EvalResult(
                task_type="image-classification",
                dataset_type="imagefolder",
                dataset_name=f"{chosen.labelled_images} labelled images",
                metric_type="accuracy",
                metric_value=round(chosen.top1, 4),
            )
        )
    is_from_hub = manifest.reference.startswith("hf:")
    card = ModelCardData(
        base_model=manifest.reference.removeprefix("hf:") if is_from_hub else None,
        base_model_relation="quantized" if is_from_hub else None,
        library_name="vitlet",
        pipeline_tag="image-classification",
        tags=["vision-transformer", manifest.model.engine, str(manifest.model.precision)],
        model_name=_printable(manifest.reference),
        eval_results=found or None,
    )
    return card.to_yaml().strip()


def _lines(manifest: Manifest) -> Iterator[str]:
    model, spec = manifest.model, manifest.image_spec
    yield f"# {_plain(manifest.reference)}, {model.engine} {model.precision}"
    yield ""
    yield f"An image classifier of {model.classes:,} classes, made small and fast by vitlet {manifest.vitlet_version}."
    if manifest.random_weights:
        yield "Its weights are random: it measures speed, and its answers mean nothing."
    if manifest.certificate is not None:
        told = sentence(manifest.certificate)
        yield ""
        yield f"**{_plain(told[0].upper() + told[1:])}.**"
        yield "(Compressed against uncompressed, on images that had no part in choosing it.)"
        if manifest.certificate.latency is not None:
            yield ""
            yield f"Latency: {_plain(latency_sentence(manifest.certificate))}."
    yield ""
    yield from (f"- {_plain(told)}" for told in manifest.sentences)
    yield from ("", "## What it is for", "")
    labels = ", ".join(_plain(label) for label in manifest.labels[:_LABELS])
    more = f", and {len(manifest.labels) - _LABELS} more" if len(manifest.labels) > _LABELS else ""
    yield f"It tells {labels}{more}. It always answers with one of these, whatever the image shows."
    yield ""
    resize = spec.resize if isinstance(spec.resize, int) else f"{spec.resize[0]} x {spec.resize[1]}"
    yield f"Images: RGB, resized to {resize} ({spec.interpolation}), the centre {spec.height} x {spec.width} cut out,"
    yield f"mean {_numbers(spec.mean)}, standard deviation {_numbers(spec.std)}; exactly in `manifest.json`."
    yield from ("", "## How to use it", "")
    if model.engine in OPENERS:
        yield from ("With numpy, Pillow and the model's runtime, in this folder:", "", "```python")
        yield from ("from preprocess import load", "from runtime import open_model", "")
        yield from ("logits = open_model()(load('photo.jpg'))", "```", "")
    test = "python selftest.py" if model.engine in OPENERS else "vitlet verify FOLDER"
    yield f"`vitlet classify FOLDER photo.jpg` answers. `{test}` tests it on your machine, and your own"
    yield "preprocessing."
    yield from ("", "## How it was measured", "")
    threads, here = manifest.environment.threads, manifest.environment
    many = "1 thread" if threads == 1 else f"{threads} threads"
    yield f"On {_plain(here.processor)} ({here.architecture}), {many}, one image at a time:"
    yield ""
    yield "| | runs on | ms (median) | MB | top-1 |"
    yield "|---|---|---|---|---|"
    yield _row("this", manifest.measurements[manifest.chosen])
    if manifest.chosen != manifest.baseline:
        yield _row("uncompressed", manifest.measurements[manifest.baseline])
    yield from ("", f"Accuracy is of {manifest.images.labelled:,} labelled images. `report.html` has all variants.")
    if manifest.recipe.command:
        yield from ("", "Made by:", "", f"    {_printable(manifest.recipe.command)}")


def _row(name: str, measurement: Measurement) -> str:
    latency = latency_summary(measurement)
    ms = "-" if latency is None else f"{latency.p50:.3g}"
    size = "-" if measurement.size_bytes is None else f"{measurement.size_bytes / 1e6:.3g}"
    top1 = "-" if measurement.top1 is None else f"{100 * measurement.top1:.2f} %"
    return f"| {name} | {measurement.engine} {measurement.precision} | {ms} | {size} | {top1} |"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _plain(text: str) -> str:
    """On one line, and nothing that Markdown or HTML would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in _printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
