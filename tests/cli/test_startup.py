"""Start-up is instant, because nothing heavy is imported before a command runs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "timm", "transformers", "torchvision", "numpy", "PIL")
COMMANDS = ("compress", "classify", "bench", "eval", "compare", "verify", "inspect", "distill", "demo", "doctor")


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_vitlet_imports_nothing_heavy():
    assert not _modules_after("import vitlet") & set(HEAVY)


def test_importing_the_public_api_imports_no_torch():
    assert not _modules_after("import vitlet; vitlet.compress; vitlet.bench; vitlet.classify") & {"torch", "timm"}


def test_help_imports_nothing_heavy():
    statement = (
        "import sys; sys.argv = ['vitlet', '--help']\n"
        "from vitlet.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    assert not _modules_after(statement) & set(HEAVY)


def test_help_answers_in_under_half_a_second():
    command = [sys.executable, "-m", "vitlet", "--help"]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5, times


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(vitlet, command):
    done = vitlet(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"vitlet {command}" in done.stdout
    assert "--json" in done.stdout


def test_help_lists_every_command(vitlet):
    text = vitlet("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS), text


def test_every_public_name_is_there_and_a_verb_is_never_a_package():
    code = (
        "import vitlet, vitlet.distill.recipe, types\n"
        "bad = [n for n in vitlet.__all__ if isinstance(getattr(vitlet, n), types.ModuleType)]\n"
        "import sys; sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(vitlet):
    import vitlet as package

    assert vitlet("--version").stdout.strip() == f"vitlet {package.__version__}"


def test_no_command_is_a_usage_error(vitlet):
    assert vitlet().returncode == 2
