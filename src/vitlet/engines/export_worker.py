"""The exporting process: ``python -m vitlet.engines.export_worker``, an ``ExportJob`` in and an ``Exported`` out.

Converters and quantizers patch PyTorch, print, keep caches and now and then crash; here they harm
nobody else, and their memory is given back.
"""

from __future__ import annotations

from dataclasses import replace

from vitlet.engines import Engine, engine
from vitlet.engines.export_job import Exported, ExportJob, Outcome, status_of
from vitlet.errors import VitletError
from vitlet.models.checkpoint import load_checkpoint
from vitlet.processes.child import Channel, one_line, serve
from vitlet.records import Classifier, Precision


def do(job: ExportJob, channel: Channel) -> Exported:
    """Load the classifier and export it in every precision; one that fails is told with its reason."""
    runtime = engine(job.engine)
    channel.tick(f"{job.engine}: loading")
    classifier = replace(load_checkpoint(job.checkpoint), reference=job.reference)
    outcomes = []
    for number, precision in enumerate(job.precisions):
        channel.tick(f"{job.engine} {precision}", number, len(job.precisions))
        outcomes.append(_export(runtime, classifier, precision, job))
    return Exported(tuple(outcomes))


def _export(runtime: Engine, classifier: Classifier, precision: Precision, job: ExportJob) -> Outcome:
    path = job.path or job.directory / f"{runtime.name}-{precision}"
    try:
        artifact = runtime.export(classifier, precision, path, calibration=job.calibration, device=job.device)
    except VitletError as error:
        return Outcome(precision, None, status_of(error), str(error))
    except Exception as error:  # whatever a converter raises
        return Outcome(precision, None, "failed", one_line(error))
    return Outcome(precision, artifact)


if __name__ == "__main__":
    serve(ExportJob, do)
