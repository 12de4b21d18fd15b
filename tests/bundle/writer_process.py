"""A process that writes a bundle, for tests that kill, starve or lock it out.

python writer_process.py write SOURCE TARGET [overwrite]    write once; say what came of it
python writer_process.py check TARGET [overwrite]           check_writable alone
python writer_process.py forever SOURCE TARGET              overwrite again and again, a dot each time
python writer_process.py crash HOW SOURCE TARGET            see ``crash``

SOURCE is a good bundle, whose content is written to TARGET.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from vitlet.bundle.read import read_bundle
from vitlet.bundle.write import check_writable, write_bundle
from vitlet.errors import VitletError

#: Audit events (PEP 578) of what touches the disk.
TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "shutil.rmtree"}


def write(source: Path, target: Path, *, overwrite: bool, sentence: str = "") -> None:
    good = read_bundle(source)
    manifest = replace(good.manifest, sentences=(sentence,)) if sentence else good.manifest
    write_bundle(target, manifest, good.artifact, {"report.html": "<!doctype html>"}, overwrite=overwrite)


def crash(how: str, source: Path, target: Path) -> None:
    """Stop the writer at its first touch of the disk, then at its second, and so on until one comes through.

    ``how``: "kill" ends the process on the spot, as kill -9 does; "interrupt" raises what Ctrl-C raises.
    After each stop, print the number of the touch and what an unharmed process then finds.
    """
    for stop_at in range(1, 10_000):
        child = os.fork()
        if child == 0:
            touches = 0

            def hook(event: str, _: tuple[object, ...], stop_at: int = stop_at) -> None:
                nonlocal touches
                touches += event in TOUCHES
                if touches == stop_at and event in TOUCHES:
                    if how == "kill":
                        os._exit(9)
                    touches = 1_000_000
                    raise KeyboardInterrupt

            code = 0
            good = read_bundle(source)
            new = replace(good.manifest, sentences=("new",))
            sys.addaudithook(hook)
            try:
                write_bundle(target, new, good.artifact, {"report.html": "<!doctype html>"}, overwrite=True)
            except KeyboardInterrupt:
                code = 9
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        beside = sorted(entry.name for entry in target.parent.iterdir())
        state = read_bundle(target).manifest.sentences[0] if target.exists() else "absent"
        print(stop_at, state, *beside, sep="\t")
        if code == 0:
            return
        write(source, target, overwrite=True, sentence="old")


def main(mode: str, *arguments: str) -> None:
    overwrite = arguments[-1] == "overwrite"
    try:
        if mode == "write":
            write(Path(arguments[0]), Path(arguments[1]), overwrite=overwrite)
        elif mode == "check":
            check_writable(Path(arguments[0]), overwrite=overwrite)
        elif mode == "crash":
            crash(arguments[0], Path(arguments[1]), Path(arguments[2]))
        elif mode == "forever":
            # Signals come after the first dot; ``vitlet.bundle.manifest`` says what msgspec does with one at first.
            read_bundle(Path(arguments[0]))
            while True:
                print(".", end="", flush=True)
                write(Path(arguments[0]), Path(arguments[1]), overwrite=True)
        print("done")
    except VitletError as error:
        print(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        print("interrupted")


if __name__ == "__main__":
    main(*sys.argv[1:])
