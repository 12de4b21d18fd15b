"""A measuring process: what it measures, and that nothing it does can hurt the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vitlet.errors import MeasurementFailed, Unsupported
from vitlet.measure.cores import available_cpus
from vitlet.measure.job import Asked, Inputs, Timing
from vitlet.measure.processes import run_job
from vitlet.processes.messages import Tick

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_times_are_those_of_the_model(sham, job):
    timing = Timing(runs=40, enough_runs=40, seconds=0.0, warm_up_runs=3, warm_up_s=0.0)
    visit = run_job(job(sham(load_ms=80, first_ms=40, run_ms=5), timing=timing), silence_limit_s=60)
    # A busy machine can only add.
    assert 80 <= visit.load_ms < 2000
    assert 45 <= visit.first_ms < 1000
    assert len(visit.latency_ms) == 40
    assert 5 <= min(visit.latency_ms) < 9
    assert np.median(visit.latency_ms) < 25


def test_end_to_end_starts_from_the_bytes_of_files(sham, job, images, tmp_path):
    """In a busy moment either may take long, but its fastest run tells what is in it."""
    files = tuple(tmp_path / f"{i}.png" for i in range(3))
    for path in files:
        Image.new("RGB", (2000, 2000), "red").save(path)
    inputs = Inputs(images.pixels_path, images.spec, encoded=files)
    visit = run_job(job(sham(run_ms=5), inputs=inputs), silence_limit_s=60)
    assert len(visit.end_to_end_ms) == 3
    assert min(visit.end_to_end_ms) > 5 + 5  # decoding four million pixels takes longer than that
    assert run_job(job(sham()), silence_limit_s=60).end_to_end_ms == ()


@linux_only
def test_memory_is_what_opening_added_also_if_it_was_given_back(sham, job):
    for behaviour in ({"hold_mb": 200}, {"touch_mb": 200}):
        visit = run_job(job(sham(**behaviour)), silence_limit_s=60)
        assert 198 <= visit.peak_memory_bytes / 2**20 < 215
    visit = run_job(job(sham()), silence_limit_s=60)
    assert visit.peak_memory_bytes / 2**20 < 20


@linux_only
def test_memory_of_batches_does_not_count(sham, job):
    visit = run_job(job(sham(touch_per_image_mb=50), throughput_batch=4), silence_limit_s=60)
    assert visit.throughput_images_per_s is not None
    assert visit.peak_memory_bytes / 2**20 < 40


def test_throughput_is_images_per_second_at_that_batch(sham, job):
    visit = run_job(job(sham(run_ms=2), timing=None, throughput_batch=8), silence_limit_s=60)
    assert 60 < visit.throughput_images_per_s <= 500  # 2 ms an image
    visit = run_job(job(sham(largest_batch=1), timing=None, throughput_batch=8), silence_limit_s=60)
    assert visit.throughput_images_per_s is None


def test_logits_of_all_images_are_written_at_batch_1(sham, job, images, tmp_path):
    path = tmp_path / "logits.npy"
    ticks: list[Tick] = []
    inputs = Inputs(images.pixels_path, images.spec)
    artifact = sham(largest_batch=1)
    run_job(
        job(artifact, inputs=inputs, timing=None, asked=(Asked(inputs, path),)),
        silence_limit_s=60,
        on_tick=ticks.append,
    )
    logits = np.load(path)
    assert logits.dtype == np.float32
    assert logits.shape == (40, 10)
    np.testing.assert_array_equal(logits.argmax(axis=1), np.repeat(np.arange(10), 4))
    assert ticks[-1] == Tick("answering", 40, 40)


def test_random_inputs_are_the_same_in_every_process(sham, job, tmp_path):
    for name in ("a", "b"):
        run_job(job(sham(), timing=None, asked=(Asked(Inputs(), tmp_path / name),)), silence_limit_s=60)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    run_job(job(sham(), timing=None, asked=(Asked(Inputs(seed=1), tmp_path / "c"),)), silence_limit_s=60)
    assert np.load(tmp_path / "a").shape == np.load(tmp_path / "c").shape == (16, 10)


def test_what_a_runtime_prints_and_reads_does_not_disturb(sham, job, log):
    noise = 'answer {"load_ms": 1, "first_ms": 1}'
    visit = run_job(job(sham(print=noise, read=True, load_ms=50)), silence_limit_s=60)
    assert visit.load_ms >= 50
    assert len(visit.latency_ms) == 3
    assert [entry["got"] for entry in log("read")] == [""]


def test_a_runtime_that_prints_without_end_is_drained(sham, job):
    visit = run_job(job(sham(print="x" * 1_000_000, complain="y" * 1_000_000)), silence_limit_s=60)
    assert visit.latency_ms


@linux_only
def test_every_thread_is_pinned(sham, job, log):
    for cpu in available_cpus()[:2]:
        run_job(job(sham(), cpus=(cpu,)), silence_limit_s=60)
        assert all(cpus == [cpu] for cpus in log("open")[-1]["cpus"])


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ({"kill": "SIGKILL"}, "sham fp32: the measuring process was killed by SIGKILL (most likely the system ran out"),
        ({"kill": "SIGILL"}, "was killed by SIGILL (it uses an instruction that this processor does not have)"),
        ({"kill": "SIGSEGV"}, "was killed by SIGSEGV (a fault in the runtime, or a damaged file)"),
        ({"kill": "SIGABRT", "complain": "terminate: bad_alloc\n\n"}, "the last thing it said was: terminate: bad_all"),
        ({"kill": "SIGRTMIN"}, "was killed by SIG"),
        ({"exit": 3, "complain": "no licence"}, "ended with exit code 3 and no result; the last thing it said was: no"),
        ({"exit": 0}, "sham fp32: the measuring process ended with exit code 0 and no result"),
        ({"raise": "\n  bad file\nat line 3"}, "sham fp32: RuntimeError: bad file"),
        ({"raise": ""}, "sham fp32: RuntimeError"),
        ({"nan_after": 0}, "sham fp32: 1 of 10 logits are NaN or infinite"),
        ({"wrong_dtype": True}, "sham fp32: answered float64 [1, 10] instead of float32 [1, 10]"),
        ({"wrong_shape": True}, "sham fp32: answered float32 [10] instead of float32 [1, 10]"),
    ],
)
def test_a_death_is_told_by_its_cause(sham, job, behaviour, text):
    with pytest.raises(MeasurementFailed) as caught:
        run_job(job(sham(**behaviour)), silence_limit_s=60)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_found_in_any_image(sham, job, tmp_path):
    broken = job(sham(nan_after=10), timing=None, asked=(Asked(Inputs(), tmp_path / "logits.npy"),))
    with pytest.raises(MeasurementFailed, match="1 of 10 logits are NaN"):
        run_job(broken, silence_limit_s=60)


def test_unsupported_stays_unsupported(sham, job):
    with pytest.raises(Unsupported) as caught:
        run_job(job(sham(unsupported="needs AVX-512")), silence_limit_s=60)
    assert caught.value.reason == "needs AVX-512"


def test_an_engine_that_is_not_installed_is_named(sham, job):
    artifact = replace(sham(), engine="elsewhere")
    with pytest.raises(MeasurementFailed, match="elsewhere fp32: no engine is called 'elsewhere'"):
        run_job(job(artifact), silence_limit_s=60)


def test_logits_that_cannot_be_written_are_a_failure(sham, job, tmp_path):
    with pytest.raises(MeasurementFailed, match="FileNotFoundError"):
        run_job(job(sham(), asked=(Asked(Inputs(), tmp_path / "missing" / "logits.npy"),)), silence_limit_s=60)


def test_no_process_can_be_started(sham, job, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(MeasurementFailed, match="sham fp32: no measuring process could be started"):
        run_job(job(sham()), silence_limit_s=60)


def test_files_in_the_users_folder_are_not_imported(sham, job, tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert run_job(job(sham()), silence_limit_s=60).latency_ms


@linux_only
def test_a_hanging_process_is_ended_with_what_it_started(sham, job, log, is_alive, wait_until):
    begin = time.monotonic()
    with pytest.raises(MeasurementFailed, match="gave no sign of life for 3 seconds"):
        run_job(job(sham(hang="asleep", child=True)), silence_limit_s=3)
    assert time.monotonic() - begin < 30
    assert not is_alive(log("open")[0]["pid"])
    assert wait_until(lambda: not is_alive(log("child")[0]["child"]))


@linux_only
def test_children_do_not_outlive_a_good_visit(sham, job, log, is_alive, wait_until):
    run_job(job(sham(child=True)), silence_limit_s=60)
    assert wait_until(lambda: not is_alive(log("child")[0]["child"]))


@linux_only
def test_an_error_in_the_callback_ends_the_process(sham, job, log, is_alive):
    def stop(tick: Tick) -> None:
        if tick.doing == "timing":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_job(job(sham(run_ms=1)), silence_limit_s=60, on_tick=stop)
    assert not is_alive(log("open")[0]["pid"])


@linux_only
@pytest.mark.parametrize(
    ("end", "hang"),
    [
        (signal.SIGINT, "spinning"),
        (signal.SIGTERM, "spinning"),
        (signal.SIGKILL, "spinning"),
        (signal.SIGKILL, "asleep"),
    ],
)
def test_no_process_outlives_its_parent(sham, job, log, end, hang, is_alive, wait_until):
    """Ctrl-C, a polite end and a hard one; the worker hangs and has a child."""
    artifact = sham(hang=hang, child=True)
    program = textwrap.dedent(f"""
        import signal
        from pathlib import Path
        from vitlet.measure.job import Asked, Inputs, Job
        from vitlet.measure.processes import run_job
        from vitlet.records import Artifact, Precision
        signal.signal(signal.SIGINT, signal.default_int_handler)
        artifact = Artifact("sham", Precision("fp32"), Path({str(artifact.path)!r}), 1, 8, 8, 10)
        run_job(Job(artifact, 1, ({available_cpus()[0]},), Inputs()), silence_limit_s=600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as parent:
        try:
            assert wait_until(lambda: log("child"))
            worker, child = log("open")[0]["pid"], log("child")[0]["child"]
            assert is_alive(worker)
            assert os.getpgid(worker) == worker
            parent.send_signal(end)
            assert wait_until(lambda: not is_alive(worker) and not is_alive(child))
        finally:
            parent.kill()
            for pid in [entry["pid"] for entry in log("open")] + [entry["child"] for entry in log("child")]:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
