"""What a further look at the same images costs, and that each is counted once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitlet.certify.looks import confidence_of_look, count_look, user_folder
from vitlet.errors import InvalidValue

IMAGES = np.arange(1000, dtype=np.uint64)
ORIGINAL = np.arange(1000) % 10


def candidate(number: int) -> np.ndarray:
    """Answers that differ from the original's in one image of its own."""
    answers = ORIGINAL.copy()
    answers[number] += 1
    return answers


def look(folder: Path, number: int, images: np.ndarray = IMAGES, original: np.ndarray = ORIGINAL) -> int | None:
    return count_look(folder, images, original[: len(images)], candidate(number)[: len(images)])


def test_all_looks_together_keep_to_the_error_that_is_allowed():
    errors = [1 - confidence_of_look(0.95, earlier) for earlier in range(100_000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(0.75 * 0.05)
    assert sum(errors) == pytest.approx(0.05, rel=1e-4)
    assert sum(errors) < 0.05
    with pytest.raises(InvalidValue, match="confidence is 0"):
        confidence_of_look(0, 1)


def test_other_candidates_count_and_the_same_does_not(tmp_path):
    assert [look(tmp_path / "looks", number) for number in (0, 1, 0, 2, 2, 1)] == [0, 1, 0, 2, 2, 1]


def test_the_order_of_the_images_does_not_matter(tmp_path):
    look(tmp_path, 0)
    order = np.random.default_rng(0).permutation(1000)
    assert count_look(tmp_path, IMAGES[order], ORIGINAL[order], candidate(0)[order]) == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_more_images_for_the_same_candidate_are_another_look(tmp_path):
    assert look(tmp_path, 0, IMAGES[:600]) == 0
    assert look(tmp_path, 0) == 1


@pytest.mark.parametrize(("shared", "earlier"), [(0, 0), (40, 0), (60, 1)])
def test_only_looks_with_images_in_common_are_charged_for(tmp_path, shared, earlier):
    look(tmp_path, 0)
    fresh = np.roll(IMAGES + np.uint64(1000), shared)
    fresh[:shared] = IMAGES[:shared]
    assert look(tmp_path, 1, fresh) == earlier


def test_another_original_has_looks_of_its_own(tmp_path):
    look(tmp_path, 0)
    other = ORIGINAL.copy()
    other[:20] += 1
    assert look(tmp_path, 1, original=other) == 0
    rounded = ORIGINAL.copy()
    rounded[:5] += 1
    assert look(tmp_path, 2, original=rounded) == 1


def test_one_answer_that_rounding_turned_makes_no_other_original_of_few_images(tmp_path):
    look(tmp_path, 0, IMAGES[:20])
    rounded = ORIGINAL.copy()
    rounded[7] += 1
    assert look(tmp_path, 1, IMAGES[:20], rounded) == 1


def test_what_is_no_look_is_passed_over(tmp_path):
    look(tmp_path, 0)
    (tmp_path / "00000002.npy").write_bytes(b"nothing")
    (tmp_path / "00000003.npy").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "00000004.npy", np.zeros(3))
    (tmp_path / "notes.npy").write_text("mine")
    assert look(tmp_path, 1) == 1
    assert (tmp_path / "00000005.npy").exists()


def test_nothing_is_known_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert look(tmp_path / "file" / "looks", 0) is None


def test_what_is_known_counts_where_nothing_more_can_be_written(tmp_path, monkeypatch):
    look(tmp_path, 0)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("vitlet.certify.looks._store", refuse)
    assert look(tmp_path, 1) == 1
    assert look(tmp_path, 2) == 1


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert [look(tmp_path, number) for number in (0, 1, 0)] == [0, 1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.npy", "00000002.npy"]


def test_looks_at_the_same_time_are_all_counted(tmp_path):
    script = (
        "import sys, numpy as np; from pathlib import Path; from vitlet.certify.looks import count_look\n"
        "images = np.arange(50, dtype=np.uint64); sys.stdin.readline()\n"
        "print([count_look(Path(sys.argv[1]), images, images * 0, images * 0 + 100 * int(sys.argv[2]) + n)"
        " for n in range(20)])"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in running:  # all have imported what they need, and begin at once
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [json.loads(process.communicate()[0]) for process in running]
    assert sorted(itertools.chain(*counts)) == list(range(60))


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "vitlet" / "looks"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert user_folder() == Path("/home/me/.local/state/vitlet/looks")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert user_folder() is None
