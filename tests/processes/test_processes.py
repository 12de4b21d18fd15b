"""Any job in a fresh process: what it answers, how its failure is told, where its temporary files go.

That a process dies with its parent, is drained and is ended when it hangs is held for the measuring
process in tests/measure/test_processes.py, which is built on the same two modules.
"""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from vitlet.errors import ExportFailed, NotWritable, Unsupported
from vitlet.processes.messages import Tick
from vitlet.processes.parent import Task, run_task

WORKER = """
import tempfile
from dataclasses import dataclass
from vitlet.errors import InvalidValue, NotWritable, Unsupported
from vitlet.processes.child import serve

@dataclass(frozen=True)
class Order:
    kind: str

@dataclass(frozen=True)
class Reply:
    text: str

def do(order, channel):
    channel.tick("working", 1, 2)
    print("noise", flush=True)
    if order.kind == "unsupported":
        raise Unsupported("needs another machine")
    if order.kind == "not writable":
        raise NotWritable("the disk is full")
    if order.kind == "wrong":
        raise InvalidValue("no such thing")
    if order.kind == "crash":
        raise KeyError("layer")
    return Reply(tempfile.gettempdir())

if __name__ == "__main__":
    serve(Order, do)
"""


@dataclass(frozen=True)
class Order:
    kind: str


@dataclass(frozen=True)
class Reply:
    text: str


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "some_worker.py").write_text(textwrap.dedent(WORKER))
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return lambda kind: Task("some_worker", Order(kind), Reply, "thing fp32", "exporting", ExportFailed)


def test_an_answer_and_signs_of_life_come_back(task):
    ticks: list[Tick] = []
    assert run_task(task("well"), silence_limit_s=60, on_tick=ticks.append).text
    assert ticks == [Tick("working", 1, 2)]


def test_temporary_files_go_where_they_are_told_to(task, tmp_path):
    place = tmp_path / "scratch"
    place.mkdir()
    assert run_task(task("well"), silence_limit_s=60, temporary=place).text == str(place)
    assert run_task(task("well"), silence_limit_s=60).text != str(place)


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("unsupported", Unsupported, "needs another machine"),
        ("not writable", NotWritable, "the disk is full"),
        ("wrong", ExportFailed, "thing fp32: no such thing"),
        ("crash", ExportFailed, "thing fp32: KeyError: 'layer'"),
    ],
)
def test_a_failure_is_raised_as_what_it_is(task, kind, error, text):
    with pytest.raises(error) as caught:
        run_task(task(kind), silence_limit_s=60)
    assert str(caught.value) == text


def test_the_process_is_named_by_what_it_does(task, tmp_path):
    (tmp_path / "some_worker.py").write_text("import os; os._exit(3)")
    with pytest.raises(ExportFailed, match="thing fp32: the exporting process ended with exit code 3"):
        run_task(task("well"), silence_limit_s=60)
