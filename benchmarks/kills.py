"""Is nothing half-written, and nothing lost, where `vitlet compress` is killed (SIGKILL) at random moments?

The whole process group is killed, moments spread evenly over the time that an undisturbed run takes. After each kill
there must be no bundle or a whole one, and the journal must still tell of every variant that it told of before. The
next run goes on from there; whatever comes to its end in spite of the clock is checked and begun anew.

    python benchmarks/kills.py --kills 30 --out benchmarks/results/kills.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitlet.bundle.read import read_bundle
from vitlet.measure.environment import environment
from vitlet.records import to_json
from vitlet.whole_file import put_whole

COMMAND = (
    "compress",
    "bundled",
    "--quick",
    "--engines",
    "onnxruntime",
    "--precisions",
    "int8-dynamic,fp32",
    "--max-drop",
    "5",
)


def start(out: Path) -> subprocess.Popen[bytes]:
    state = {"XDG_STATE_HOME": str(out.parent / "state")}  # looks of these runs are nobody's
    return subprocess.Popen(
        [sys.executable, "-m", "vitlet", *COMMAND, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **state},
        start_new_session=True,
    )


def told(out: Path) -> set[str]:
    """The variants that the journal tells of, by its whole lines."""
    journal = out.with_name(out.name + ".search") / "journal.jsonl"
    if not journal.exists():
        return set()
    lines = [line for line in journal.read_bytes().split(b"\n")[:-1] if line]
    return {json.loads(line)["variant"] for line in lines[1:]}


def half_written(out: Path) -> list[str]:
    """What lies beside the bundle that a later run would not clear or use; raises for a damaged bundle."""
    if out.exists():
        read_bundle(out)
    known = {out.name, f"{out.name}.search", "state"}
    return [one.name for one in out.parent.iterdir() if one.name not in known and ".partial-" not in one.name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    dice, rows = random.Random(chosen.seed), []
    with tempfile.TemporaryDirectory(prefix="vitlet-kills-") as folder:
        out = Path(folder) / "small.vitlet"
        began = time.monotonic()
        _, complaint = start(out).communicate()
        whole_s = time.monotonic() - began
        read_bundle(out)
        print(f"undisturbed: {whole_s:.1f} s", flush=True)
        shutil.rmtree(out)
        while len(rows) < chosen.kills:
            before, after_s = told(out), dice.uniform(0.3, whole_s)
            process = start(out)
            try:
                _, complaint = process.communicate(timeout=after_s)
                assert process.returncode == 0, complaint.decode()
                assert not out.with_name(out.name + ".search").exists()
                read_bundle(out)
                shutil.rmtree(out)
                print(f"came to its end within {after_s:.1f} s, from {len(before)} variants on", flush=True)
                continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            odd, after = half_written(out), told(out)
            lost = sorted(before - after) if not out.exists() else []
            rows.append({"after_s": after_s, "variants_before": len(before), "variants_after": len(after)})
            print(f"killed after {after_s:.1f} s: {len(before)} -> {len(after)} variants", odd, lost, flush=True)
            assert not odd, f"left behind: {odd}"
            assert not lost, f"forgotten: {lost}"
            if out.exists():
                shutil.rmtree(out)
        _, complaint = (process := start(out)).communicate()
        assert process.returncode == 0, complaint.decode()
        read_bundle(out)
        assert sorted(one.name for one in Path(folder).iterdir()) == [out.name, "state"]
        print("the last run went on to its end, and nothing but the bundle is left")
    if chosen.out:
        record = {"command": " ".join(COMMAND), "undisturbed_s": whole_s, "kills": rows}
        record["environment"] = to_json(environment(1))
        put_whole(chosen.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
