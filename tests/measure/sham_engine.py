"""A throw-away runtime for the tests, whose artifact is a JSON file that says how to (mis)behave.

It is installed as a plug-in (``conftest.plugin``), so the measuring process finds it through the
entry points as it would find anyone else's. Every opening is appended to the file named by "log".
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vitlet.errors import InvalidValue, Unsupported
from vitlet.records import Availability


class ShamEngine:
    name = "sham"

    def available(self, *_):
        return Availability(True)

    def precisions(self):
        return ()

    def export(self, classifier, precision, path, *, calibration=None, device="cpu"):
        raise NotImplementedError

    def explain(self, artifact, *, threads, images):
        if json.loads(artifact.path.read_text()).get("dies_explaining"):
            os.kill(os.getpid(), signal.SIGSEGV)
        raise KeyError("no such counter")

    def warm_imports(self):
        pass

    def open(self, artifact, *, threads):
        return ShamSession(json.loads(artifact.path.read_text()), artifact, threads)


class ShamSession:
    def __init__(self, behaviour, artifact, threads):
        self.behaviour = behaviour
        self.classes = artifact.classes
        self.runs = 0
        self.largest = 0
        self._log("open", name=artifact.path.stem, threads=threads, cpus=_affinities())
        time.sleep(behaviour.get("load_ms", 0) / 1000)
        self.held = _touch(behaviour.get("hold_mb", 0))
        _touch(behaviour.get("touch_mb", 0))
        self._misbehave()

    def run(self, images):
        self.runs += 1
        self.largest = max(self.largest, len(images))
        if len(images) > self.behaviour.get("largest_batch", 1000):
            raise InvalidValue(f"a batch of {len(images)} is too large")
        _touch(self.behaviour.get("touch_per_image_mb", 0) * (len(images) - 1))
        delay = self.behaviour.get("run_ms", 0) * len(images)
        if self.runs == 1:
            delay += self.behaviour.get("first_ms", 0)
        if delay:
            time.sleep(delay / 1000)
        return self._answer(images)

    def close(self):
        self._log("close", runs=self.runs, largest_batch=self.largest)

    def _answer(self, images):
        # A constant image of byte value 10 * c is class c: its logit is the largest, 0.
        means = images.reshape(len(images), -1).mean(axis=1)
        levels = np.rint(means * 255 / 10)
        wrong = np.isin(levels, self.behaviour.get("wrong_classes", []))
        levels = (levels + wrong) % self.classes
        logits = -(np.abs(levels[:, None] - np.arange(self.classes))).astype(np.float32)
        logits *= self.behaviour.get("scale", 1.0)
        if self.runs > self.behaviour.get("nan_after", 1 << 60):
            logits[:, 0] = np.nan
        if self.behaviour.get("wrong_dtype"):
            return logits.astype(np.float64)
        if self.behaviour.get("wrong_shape"):
            return logits[0]
        return logits

    def _misbehave(self):
        b = self.behaviour
        if "print" in b:
            print(b["print"], flush=True)
            os.write(1, b["print"].encode() + b"\n")
        if b.get("read"):
            self._log("read", got=sys.stdin.read())
        if "complain" in b:
            os.write(2, b["complain"].encode() + b"\n")
        if "child" in b:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            self._log("child", child=child.pid)
        if "unsupported" in b:
            raise Unsupported(b["unsupported"])
        if "raise" in b:
            raise RuntimeError(b["raise"])
        if "kill" in b:
            os.kill(os.getpid(), getattr(signal, b["kill"]))
        if "exit" in b:
            os._exit(b["exit"])
        if b.get("hang") == "asleep":
            time.sleep(600)
        if b.get("hang") == "spinning":
            re.match(r"(a*)*b", "a" * 50)  # for ever, and without letting go of the interpreter's lock

    def _log(self, event, **more):
        if "log" in self.behaviour:
            with Path(self.behaviour["log"]).open("a") as file:
                file.write(json.dumps({"event": event, "pid": os.getpid(), **more}) + "\n")


def _touch(megabytes):
    """Memory that is really there, not only promised."""
    return np.ones(megabytes << 20, np.uint8) if megabytes else None


def _affinities():
    if not hasattr(os, "sched_getaffinity"):
        return []
    return [sorted(os.sched_getaffinity(int(thread.name))) for thread in Path("/proc/self/task").iterdir()]
