"""The whole job: from a model's name to a folder to ship."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vitlet.bundle.golden import FEW_IMAGES, check_count, golden_pictures, with_golden
from vitlet.bundle.manifest import Manifest
from vitlet.bundle.write import check_writable, write_bundle
from vitlet.certify.certificate import Certificate
from vitlet.certify.inspection import Sensitivities
from vitlet.certify.journal import Journal, open_journal, state_folder
from vitlet.certify.search import Wish, search
from vitlet.data.gather import Wanted, gather, gather_parts
from vitlet.data.made import is_made
from vitlet.engines.variants import Variant, variants
from vitlet.errors import InvalidValue, NoImages, OverBudget, Unsupported
from vitlet.measure.budget import NO_BUDGET, Budget
from vitlet.measure.damage import ChangedPicture
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.pipeline.describing import manifest_of
from vitlet.pipeline.inspecting import looked_into
from vitlet.pipeline.judging import Promise, answered, certified, refuse_verdict_on_made
from vitlet.pipeline.loading import loaded, refuse_bundle
from vitlet.pipeline.measuring import Measured, all_measured, compared, gathered
from vitlet.records import Artifact, Classifier, Device, Progress, ProgressCallback, no_progress
from vitlet.results import Compressed

NO_IMAGES = (
    "no images were given: name a folder with --data, or say --data none to do without (then nothing is said about "
    "accuracy)"
)


def compress(
    model: str | Path | Classifier,
    *,
    out: str | Path,
    data: Sequence[str | Path] = (),
    calibration: Sequence[str | Path] = (),
    random_weights: bool = False,
    settings: MeasureSettings | None = None,
    engine_names: Sequence[str] = (),
    precision_names: Sequence[str] = (),
    device: Device = "cpu",
    certify_data: Sequence[str | Path] = (),
    limit: int | None = 500,
    certify_limit: int | None = 5000,
    max_drop: float | None = None,
    min_agreement: float = 0.98,
    budget: Budget = NO_BUDGET,
    time_limit_s: float | None = None,
    exhaustive: bool = False,
    confidence: float = 0.95,
    looks: Path | None = None,
    golden_images: int = FEW_IMAGES,
    overwrite: bool = False,
    check_source: bool = True,
    command: str = "",
    progress: ProgressCallback = no_progress,
) -> Compressed:
    """Do the whole job: load, check against the source library, search among the variants (``vitlet.certify.search``),
    and write a bundle with the fastest that keeps its accuracy to within ``max_drop`` (0..1; 0.01 if none is given)
    or, without labels, the same answer on ``min_agreement`` (0..1) of the images, and keeps to the ``budget``.

    With a ``time_limit_s`` the search tries what promises most and then makes do with it; ``exhaustive`` measures every
    variant instead, however unpromising. The images are parted (``vitlet.data.parts``): some to calibrate static
    quantization with (unless ``calibration`` names others), at most ``limit`` to choose by, and at most
    ``certify_limit`` (of ``certify_data``, if that is named) by which the chosen variant alone is judged: how much
    accuracy it may have lost, with ``confidence``, and whether that is within ``max_drop``, if one is given. Too few
    images to be parted serve for all but that; in the place of ``["none"]`` some are made (``vitlet.data.made``), and
    they do, too. In the folder ``looks`` it is remembered which images judged what, for whoever tries until one passes;
    ``None``: nowhere. What the search finds is kept in ``out`` + ".search" until the bundle is written: another call
    goes on from there. The bundle tests itself with a test card and ``golden_images`` of the images that were measured,
    which go into it; unless that is 0, its report shows small pictures of some whose answer changed.

    Raises:
        InvalidValue: ``max_drop``, ``confidence`` or ``golden_images`` is out of its range.
        OutputExists, NotWritable: before the work begins, if ``out`` cannot be written.
        ParityFailed: vitlet's path gives other results than the source library
            (``check_source=False`` goes on all the same).
        OverBudget: nothing keeps to the budget, so nothing is written.
        VitletError: the model or the images cannot be had.
    """
    promise = Promise(max_drop, confidence, looks)
    check_count(golden_images)
    refuse_verdict_on_made(certify_data or data, max_drop)
    if is_made(certify_data):
        raise InvalidValue("images that vitlet makes judge nothing; leave out --certify-data, or name some of your own")
    if exhaustive and time_limit_s is not None:
        raise InvalidValue("--exhaustive measures every variant, however long that takes; leave out --time-limit")
    settings = settings or MeasureSettings()
    limits = Limits(min_agreement, 0.01 if max_drop is None else max_drop, budget)
    pairs = variants(engine_names, precision_names)
    wanted = Wanted(data, calibration, limit, certify_data, certify_limit)
    target = Path(out)
    check_writable(target, overwrite=overwrite)
    if not data and not random_weights and isinstance(model, str | Path) and str(model) != "bundled":
        raise NoImages(NO_IMAGES)  # before a download rather than after it
    classifier = loaded(refuse_bundle(model, "is compressed already; compress"), progress, random_weights)
    if classifier.random_weights and (max_drop is not None or certify_data):
        raise InvalidValue("random weights have no accuracy to lose; leave out --max-drop and --certify-data")
    if not data and not classifier.random_weights and classifier.reference != "bundled":
        raise NoImages(NO_IMAGES)
    parity = None
    if check_source:
        from vitlet.models.agreement import require_agreement

        progress(Progress("check", f"against {classifier.library}"))
        parity = require_agreement(classifier, data)
    with tempfile.TemporaryDirectory(prefix="vitlet-") as scratch, open_journal(state_folder(target)) as journal:
        job = searched(
            classifier,
            pairs,
            wanted,
            limits,
            settings,
            device,
            time_limit_s,
            Path(scratch),
            journal,
            progress,
            exhaustive=exhaustive,
        )
        found = compared(
            classifier.reference, job.measured, job.images, settings, limits, classifier.random_weights, parity
        )
        if found.comparison.excess:
            late = f"; the time limit came before {job.untried} variants were tried" if job.untried else ""
            raise OverBudget(found.comparison.sentences[0].removesuffix(".") + late, found)
        chosen = job.exported[found.comparison.best]
        if not isinstance(chosen, Artifact):  # compare() only ever recommends a row that was measured
            raise Unsupported(f"no variant of {classifier.reference} could be exported and measured here")
        best, baseline = found.comparison.best, found.comparison.baseline
        golden = golden_pictures(job.images, golden_images, classifier.image_spec, Path(scratch))
        to_certify = [] if best == baseline or job.to_certify is None else [job.to_certify]
        logits = answered(
            job, {best, baseline}, [golden.images, *to_certify], settings.threads, Path(scratch), progress
        )
        original = logits.get(baseline) if best != baseline else None
        certificate: Certificate | None = None
        changed: tuple[ChangedPicture, ...] = ()
        if to_certify and original is not None:
            certificate, changed = certified(
                job, best, baseline, logits[best][1], original[1], promise, classifier.labels
            )
        layers = looked_into(classifier, chosen, job, settings, progress)
        progress(Progress("write", str(target)))
        manifest = manifest_of(
            classifier, chosen, found, settings, limits, command, certificate, job.to_certify, job.twins
        )
        manifest, parts = with_golden(manifest, golden, logits[best][0], None if original is None else original[0])
        # Whoever keeps images out of the bundle keeps them out of the report, too.
        pages = _pages(manifest, changed if golden_images else (), layers)
        bundle = write_bundle(target, manifest, chosen, {**pages, **parts}, overwrite=overwrite)
        return Compressed(bundle, found, certificate)


def _pages(
    manifest: Manifest, changed: tuple[ChangedPicture, ...], layers: Sensitivities | None
) -> dict[str, str | bytes]:
    """What people read of a bundle, by file name."""
    from vitlet.report import ReportData, render_report
    from vitlet.report.model_card import NAME, render_model_card

    return {
        "report.html": render_report(ReportData.of(manifest, changed, layers)),
        NAME: render_model_card(manifest),
    }


def searched(
    classifier: Classifier,
    pairs: Sequence[Variant],
    wanted: Wanted,
    limits: Limits,
    settings: MeasureSettings,
    device: Device,
    time_limit_s: float | None,
    scratch: Path,
    journal: Journal,
    progress: ProgressCallback,
    *,
    exhaustive: bool,
) -> Measured:
    """Search among the variants for the fastest within ``limits`` (or measure them all), with images kept back to
    certify it by. The ``journal`` keeps what the search finds."""
    answers_matter = not classifier.random_weights
    found = gathered(gather_parts if answers_matter else gather, classifier, pairs, wanted, scratch, progress)
    if exhaustive:
        return all_measured(classifier, pairs, found, settings, device, scratch, progress)
    wish = Wish(pairs, found.images, found.calibration, limits, settings, device, answers_matter, time_limit_s)
    best = search(classifier, wish, journal, progress)
    return Measured(best.exported, best.measured, found.images, found.to_certify, found.twins, best.untried)
