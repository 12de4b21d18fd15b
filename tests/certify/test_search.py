"""The search, on variants whose speed and answers are given; real ones are tried in ``tests/cli/test_compress.py``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vitlet.certify import search as module
from vitlet.certify.first_look import Look
from vitlet.certify.journal import Journal
from vitlet.certify.promise import MEASURED, kind_of
from vitlet.certify.search import Wish, search
from vitlet.errors import MeasurementFailed
from vitlet.measure.budget import Budget
from vitlet.measure.settings import MeasureSettings
from vitlet.measure.verdict import Limits
from vitlet.records import Artifact, Environment, Measurement, Precision

HERE = Environment("EPYC", "x86_64", ("avx2",), 2, 1 << 34, "Linux", "3.11.0", {}, 2)
BASELINE_MS = 80.0


@dataclass
class World:
    """Each variant's time for an image; those in ``lossy`` lose their accuracy (seen in the first look: ``hopeless``),
    those in ``broken`` cannot be exported, those in ``dying`` not be asked. The engines ``mixing`` can leave operations
    in float. What is done is counted."""

    ms: dict[str, float]
    lossy: set[str] = field(default_factory=set)
    hopeless: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    dying: set[str] = field(default_factory=set)
    mixing: set[str] = field(default_factory=set)
    size_bytes: dict[str, int] = field(default_factory=dict)
    exported: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    measured: list[list[str]] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[SimpleNamespace, Precision]]:
        split = [name.split(" ") for name in self.ms]
        mixes = {engine: ("int8-static", "int8-dynamic") if engine in self.mixing else () for engine, _ in split}
        return [
            (SimpleNamespace(name=engine, mixes=mixes[engine]), _precision(precision)) for engine, precision in split
        ]

    def artifact(self, engine: str, precision: Precision, folder: Path) -> Artifact:
        path = folder / f"{engine}-{precision}.bin"
        size = self.size_bytes.get(f"{engine} {precision}", 1000)
        path.write_bytes(bytes(size))
        return Artifact(engine, precision, path, size, height=8, width=8, classes=10)

    def row(self, artifact: Artifact) -> Measurement:
        name = f"{artifact.engine} {artifact.precision}"
        ms = self.ms.get(name, BASELINE_MS)
        return Measurement(
            artifact.engine,
            str(artifact.precision),
            "ok",
            latency_samples_ms=((ms,) * 40, (ms * 1.01,) * 40),
            size_bytes=artifact.size_bytes,
            images=100,
            labelled_images=100,
            top1=0.5 if name in self.lossy | self.hopeless else 0.9,
            agreement=1.0,
            environment=HERE,
        )


def _precision(text: str) -> Precision:
    for kernels in ("qnnpack", "x86", "onednn"):
        if text.endswith(f"-{kernels}"):
            return Precision(text.removesuffix(f"-{kernels}"), kernels)  # type: ignore[arg-type]
    return Precision(text)  # type: ignore[arg-type]


@pytest.fixture
def find(monkeypatch, tmp_path):
    """Search a world; returns what was found, with the name of the best."""

    def find(world: World, budget: Budget = Budget(), folder: Path = tmp_path, **wish: object):  # noqa: B008
        def export_from(baseline, reference, runtime, precisions, directory, **_):
            (precision,) = precisions
            world.exported.append(f"{runtime.name} {precision}")
            if world.exported[-1] in world.broken:
                return [Measurement(runtime.name, str(precision), "failed", "the exporter died")]
            return [world.artifact(runtime.name, precision, directory)]

        def measure(artifacts, images, settings, progress):
            world.measured.append([f"{one.engine} {one.precision}" for one in artifacts])
            return tuple(world.row(one) for one in artifacts)

        class FirstLook:
            few = SimpleNamespace(count=32)

            def __init__(self, baseline, images, limits, settings, directory):
                self.ms = world.row(baseline).latency_samples_ms[0][0]
                self.fits = not self.excess(baseline, 1.0, None)

            def at(self, artifact):
                return Look(world.row(artifact).latency_samples_ms[0][0], 1000)

            def too_large(self, artifact):
                limit = budget.size_bytes
                return f"its file has {artifact.size_bytes} bytes" if limit and artifact.size_bytes > limit else ""

            def excess(self, artifact, ratio, memory_bytes):
                ms = ratio * self.ms
                return "too slow" if budget.latency_ms and ms > 1.3 * budget.latency_ms else self.too_large(artifact)

            def answers(self, artifact):
                name = f"{artifact.engine} {artifact.precision}"
                world.asked.append(name)
                if name in world.dying:
                    raise MeasurementFailed("it died")
                return "hopeless" if name in world.hopeless else ""

        def export_baseline(classifier, folder, device):
            return world.artifact("torch", Precision("fp32"), folder)

        monkeypatch.setattr(module, "export_baseline", export_baseline)
        monkeypatch.setattr(module, "export_from", export_from)
        monkeypatch.setattr(module, "measure", measure)
        monkeypatch.setattr(module, "FirstLook", FirstLook)
        monkeypatch.setattr(module, "fallbacks", lambda *_, **__: (("a",), ("a", "b")))
        limits, settings = Limits(budget=budget), MeasureSettings(1)
        found = search(
            SimpleNamespace(reference="model"),
            Wish(world.pairs, None, None, limits, settings, **wish),
            Journal(folder),
        )
        mixed = sum(row.precision.endswith("float") for row in found.measured)
        assert len(found.exported) == len(found.measured) == len(world.ms) + 1 + (0 if not world.mixing else mixed)
        comparison = module.compare(found.measured, budget=budget)
        best = found.measured[comparison.best]
        assert isinstance(found.exported[comparison.best], Artifact)
        return found, f"{best.engine} {best.precision}", comparison

    return find


def known(factor: dict[str, float] | None = None) -> dict[str, float]:
    """All variants as they were measured elsewhere, some faster or slower by a factor."""
    factor = factor or {}
    return {
        f"{engine} {precision}": BASELINE_MS * ratio * factor.get(f"{engine} {precision}", factor.get(engine, 1.0))
        for engine, precisions in MEASURED.items()
        for precision, ratio in precisions.items()
        if (engine, precision) != ("torch", "fp32")
    }


def test_on_the_known_machine_few_are_tried_and_the_fastest_is_found(find):
    world = World(known())
    found, best, _ = find(world)
    assert best == "native int8-dynamic" == world.exported[0]
    assert len(world.exported) < len(world.ms) / 3
    assert len(world.measured) == 1
    left_out = [row for row in found.measured if row.status == "left out"]
    assert len(left_out) + len(world.measured[0]) == len(world.ms) + 1
    assert all("ms for an image" in row.reason for row in left_out)
    assert any("were expected of it; native int8-dynamic took 11.2 ms" in row.reason for row in left_out)


@pytest.mark.parametrize(
    "factor",
    [
        {"native": 5.0},
        {"native": 2.0, "openvino": 0.7},
        {"executorch": 0.5, "litert": 3.0},
        {"onnxruntime": 0.5},
        {"onnxruntime int8-static": 0.6},
    ],
)
def test_on_another_machine_the_fastest_is_found_too(find, factor):
    world = World(known(factor))
    _, best, _ = find(world)
    assert world.ms[best] <= 1.05 * min(world.ms.values())
    assert len(world.exported) < len(world.ms)


def test_where_int8_is_slow_a_float_is_found(find):
    world = World({name: ms * (6 if " int" in name else 1) for name, ms in known().items()})
    _, best, _ = find(world)
    assert best == min(world.ms, key=world.ms.__getitem__) == "openvino bf16"


@pytest.mark.parametrize("seen", ["hopeless", "lossy"])
def test_what_loses_its_answers_does_not_win_nor_keep_others_out(find, seen):
    """Whether that shows in the first look or only in full."""
    fastest = {"native int8-dynamic", "openvino int8-static-bf16", "executorch int8-dynamic"}
    world = World(known(), **{seen: fastest})
    found, best, _ = find(world)
    assert best in ("executorch int8-static", "litert int8-dynamic", "litert int8-static")
    assert all(name not in world.measured[-1] for name in fastest) or seen == "lossy"
    reasons = {f"{row.engine} {row.precision}": row.reason for row in found.measured}
    assert (reasons["native int8-dynamic"] == "hopeless") == (seen == "hopeless")


MIXED = {
    "onnxruntime int8-static": 11.0,
    "onnxruntime int8-static-1float": 12.0,
    "onnxruntime int8-static-2float": 14.0,
}


def mixing(**lost: set[str]) -> World:
    """The fastest can leave one or two operations in float."""
    world = World(known({"native": 3.0}) | MIXED, mixing={"onnxruntime"}, **lost)
    for name in list(MIXED)[1:]:
        del world.ms[name]
    world.row = lambda artifact, row=world.row: _timed(row(artifact))
    return world


def _timed(row: Measurement) -> Measurement:
    ms = MIXED.get(f"{row.engine} {row.precision}")
    return row if ms is None else replace(row, latency_samples_ms=((ms,) * 40, (ms * 1.01,) * 40))


@pytest.mark.parametrize("seen", ["hopeless", "lossy"])
@pytest.mark.parametrize(("lost", "wanted"), [(1, "1float"), (2, "2float")])
def test_what_loses_its_answers_comes_again_with_operations_in_float(find, seen, lost, wanted):
    world = mixing(**{seen: set(list(MIXED)[:lost])})
    found, best, _ = find(world)
    assert best == f"onnxruntime int8-static-{wanted}"
    chosen = next(one for one in found.exported if isinstance(one, Artifact) and str(one.precision).endswith(wanted))
    assert chosen.precision.in_float == ("a", "b")[:lost]


def test_operations_in_float_are_not_tried_where_int8_will_do(find):
    world = mixing()
    assert find(world)[1] == "onnxruntime int8-static"
    assert not any("float" in name for name in world.exported)


def test_nor_where_something_else_is_faster_than_that_int8(find):
    world = mixing(hopeless={"onnxruntime int8-static"})
    world.ms |= {"native int8-dynamic": 10.0}
    assert find(world)[1] == "native int8-dynamic"
    assert not any("float" in name for name in world.exported)


def test_a_failed_export_is_a_row_and_the_search_goes_on(find):
    world = World(known(), broken={"native int8-dynamic"})
    found, best, _ = find(world)
    assert best.startswith(("openvino int8", "executorch int8", "litert int8"))
    assert [row.reason for row in found.measured if row.status == "failed"] == ["the exporter died"]


def test_what_dies_when_it_is_asked_is_a_row_and_the_search_goes_on(find):
    found, best, _ = find(World(known(), dying={"native int8-dynamic"}))
    assert best != "native int8-dynamic"
    assert [row.reason for row in found.measured if row.status == "failed"] == ["it died"]


def test_what_failed_is_tried_again_by_the_next_run(find, tmp_path):
    """The disk or the memory may have been full."""
    assert find(World(known(), broken={"native int8-dynamic"}))[1] != "native int8-dynamic"
    assert find(World(known()))[1] == "native int8-dynamic"


def test_a_budget_that_the_fastest_does_not_keep(find):
    sizes = dict.fromkeys(known(), 50_000) | {"openvino int4-weights": 900, "litert int8-weights": 950}
    found, best, comparison = find(World(known(), size_bytes=sizes), Budget(size_bytes=980))
    assert (best, comparison.excess) == ("litert int8-weights", "")
    native = next(row for row in found.measured if row.engine == "native")
    assert (native.status, "its file has" in native.reason) == ("left out", True)


def test_only_what_was_measured_beside_the_same_baseline_is_compared(find):
    """The second round's machine is slower: what would not do in the first must not do by that."""
    world = World({"native int8-dynamic": 41.0, "plug-in int8-dynamic": 60.0})
    row = world.row

    def slower(artifact: Artifact) -> Measurement:
        found = row(artifact)
        if len(world.measured) > 1 and artifact.engine == "torch":
            return replace(
                found, latency_samples_ms=tuple(tuple(1.2 * ms for ms in one) for one in found.latency_samples_ms)
            )
        return found

    world.row = slower
    found, _, comparison = find(world, Budget(speedup=2))
    assert comparison.excess
    assert len(world.measured) == 2
    (native,) = (row for row in found.measured if row.engine == "native")
    assert native.status == "left out"
    assert native.reason.startswith("measured in full: it may be only 1.8")


def test_few_rounds_however_many_lose_their_answers(find):
    world = World(known())
    world.lossy = set(world.ms)
    _, best, _ = find(world)
    assert best == "torch fp32"
    assert len(world.measured) <= 8
    assert sum(map(len, world.measured)) <= len(world.ms) + 1 + len(world.measured)


def test_on_strange_machines_the_fastest_is_seldom_missed(find, tmp_path):
    """Engines and kinds of arithmetic off by a factor (lognormal, 0.3), each variant by another (0.1)."""
    generator = np.random.default_rng(0)
    missed = 0
    for number in range(40):
        factors: dict[tuple[str, str], float] = {}
        ms = {}
        for name, value in known().items():
            engine, precision = name.split(" ")
            factor = factors.setdefault((engine, kind_of(precision)), float(np.exp(generator.normal(0, 0.3))))
            ms[name] = value * factor * float(np.exp(generator.normal(0, 0.1)))
        (tmp_path / str(number)).mkdir()
        world = World(ms)
        _, best, _ = find(world, folder=tmp_path / str(number))
        missed += ms[best] > 1.05 * min(ms.values())
    assert missed <= 2


def test_a_budget_that_nothing_keeps(find):
    world = World(known())
    _, best, comparison = find(world, Budget(latency_ms=1))
    assert comparison.excess
    assert len(world.exported) == len(world.ms)
    assert best == "native int8-dynamic"  # what comes nearest is measured, and named


def test_a_size_that_nothing_keeps(find):
    sizes = dict.fromkeys(known(), 50_000) | {"openvino int4-weights": 900, "litert int8-weights": 950}
    world = World(known(), size_bytes=sizes)
    _, best, comparison = find(world, Budget(size_bytes=100))
    assert best == "openvino int4-weights"
    assert comparison.excess
    assert len(world.measured) == 1


def test_nothing_is_faster_than_the_baseline(find):
    world = World(dict.fromkeys(known(), 3 * BASELINE_MS))
    _, best, _ = find(world)
    assert best == "torch fp32"


def test_nothing_but_the_baseline_is_asked_for(find):
    world = World({})
    assert find(world)[1] == "torch fp32"
    assert world.measured == [["torch fp32"]]


def test_an_unknown_engine_is_tried(find):
    world = World(known() | {"plug-in int8-dynamic": 5.0})
    assert find(world)[1] == "plug-in int8-dynamic"


def test_a_time_limit_ends_the_trying(find, monkeypatch):
    world = World(known())
    now = iter(range(10_000))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    found, best, _ = find(world, time_limit_s=4)
    assert 1 <= len(world.exported) <= 3
    assert best in world.exported
    late = [row.reason for row in found.measured if row.reason == "the time limit came before its turn"]
    assert len(late) == found.untried > 0


def test_what_has_no_promise_is_not_said_to_be_late(find, monkeypatch):
    """The limit passes only while the fastest are measured."""
    world = World(known())
    clock = SimpleNamespace(monotonic=lambda: 1000.0 if world.measured else 0.0)
    monkeypatch.setattr(module, "time", clock)
    found, best, _ = find(world, time_limit_s=100)
    assert best == "native int8-dynamic"
    assert found.untried == 0
    assert not any("time limit" in row.reason for row in found.measured)


def test_files_of_what_lost_its_answers_do_not_stay(find, tmp_path):
    world = World(known(), hopeless={"native int8-dynamic"})
    find(world)
    assert not (tmp_path / "native-int8-dynamic.bin").exists()
    assert len(list(tmp_path.glob("*.bin"))) == len(world.exported)  # and the baseline's, less the one


class Killed(Exception):
    """As if the process had died."""


@pytest.mark.parametrize("after", range(1, 7))
def test_a_search_that_was_cut_short_goes_on(find, after, tmp_path):
    """Nothing is exported or asked twice, but for what was at hand; and the end is the same."""
    world = World(known({"native": 2.0}), hopeless={"openvino int8-static-bf16"})
    (tmp_path / "whole").mkdir()
    whole, best, _ = find(World(world.ms, hopeless=world.hopeless), folder=tmp_path / "whole")
    row = world.row

    def dying(artifact: Artifact) -> Measurement:
        if len(world.exported) > after and artifact.engine != "torch":
            raise Killed
        return row(artifact)

    world.row = dying
    with pytest.raises(Killed):
        find(world)
    assert len(world.exported) == after + 1
    world.row = row
    found, again, _ = find(world)
    assert again == best
    assert [row.status for row in found.measured] == [row.status for row in whole.measured]
    twice = [name for name in set(world.exported) if world.exported.count(name) > 1]
    assert twice == [world.exported[after]]


def test_another_search_begins_anew_and_other_limits_do_not(find, tmp_path):
    first, second, third = World(known()), World(known()), World(known())
    find(first)
    find(second, Budget(latency_ms=50))
    assert second.exported == []
    (tmp_path / "left behind.bin").write_bytes(b"")
    find(third, answers_matter=False)
    assert third.exported == first.exported
    assert not (tmp_path / "left behind.bin").exists()
