"""How often the same images have judged before, and what another look at them costs.

Who holds one candidate after the other against the same images until one passes will find one that passes by luck. So
each look at a further candidate gets a smaller share of the error that is allowed in all ("alpha-spending" in Tian and
Ramdas, "Online control of the familywise error rate", arXiv 1910.04900), and whatever the number of candidates, the
probability that any passes which drops by more than the limit is no higher than the confidence allows.

Looks are remembered in a folder, one file each: which images, what the original answered and what the candidate did. A
look is charged for if it shares images with an earlier one, the original is the same and the candidate another.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from vitlet.certify.paired import check_confidence

#: Of the error that is allowed in all, the first look gets so much.
FIRST_SHARE = 0.75
#: Looks with fewer of the smaller one's images in common have little to do with each other.
_SHARED = 0.05
#: Originals that answer this share of the common images alike are the same one, but for rounding on another machine.
_SAME_ORIGINAL = 0.99
_RECORD = np.dtype([("image", "<u8"), ("original", "<i4"), ("answer", "<i4")])
_SUFFIX = ".npy"


def user_folder() -> Path | None:
    """Where the looks of this user are remembered; ``None`` for a user without a home."""
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "vitlet" / "looks"
    except RuntimeError:
        return None


def confidence_of_look(confidence: float, earlier: int) -> float:
    """How sure a bound must be after ``earlier`` other looks for all of them together to be true with ``confidence``.

    Of the error 1 - ``confidence`` the first look gets three quarters, and look number k + 1 of the rest
    1 / (k (k + 1)), which over all k adds up to one; it falls so slowly that the hundredth bound is still usable.

    Raises:
        InvalidValue: ``confidence`` is not from 0.5 to below 1.
    """
    check_confidence(confidence)
    share = FIRST_SHARE if earlier == 0 else (1 - FIRST_SHARE) / (earlier * (earlier + 1))
    return 1 - (1 - confidence) * share


def count_look(folder: Path, images: np.ndarray, original: np.ndarray, answers: np.ndarray) -> int | None:
    """How many other candidates these images judged before; remembers this look, unless it was made before.

    ``images``: uint64 [images], a fingerprint of each; ``original`` and ``answers``: int [images], the class that each
    model gives. A candidate is the same if it gives the same answers to the same images. ``None`` if nothing is known:
    there is no such folder, and none can be made. A look that cannot be stored is told as the others and forgotten.
    """
    look = np.zeros(len(images), _RECORD)
    look["image"], look["original"], look["answer"] = images, original, answers
    look = np.unique(look)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        return None
    earlier, last = 0, 0
    while True:
        for number, other in _looks(folder, after=last):
            last = number
            if np.array_equal(other, look):
                return earlier
            earlier += _is_related(look, other)
        # Another process may take the number first; then its look is an earlier one.
        try:
            _store(folder / f"{last + 1:08d}{_SUFFIX}", look)
        except FileExistsError:
            continue
        except OSError:
            pass
        return earlier


def _looks(folder: Path, *, after: int) -> Iterator[tuple[int, np.ndarray]]:
    """Those with a higher number than ``after``, in order; what is no look is passed over."""
    numbers = sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
    for number in numbers:
        if number > after:
            yield number, _read(folder / f"{number:08d}{_SUFFIX}")


def _read(path: Path) -> np.ndarray:
    with suppress(ValueError, EOFError, OSError), path.open("rb") as file:
        look: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        if look.dtype == _RECORD and look.ndim == 1:
            return look
    return np.zeros(0, _RECORD)


def _is_related(look: np.ndarray, other: np.ndarray) -> bool:
    """Whether the two have images and the original in common."""
    _, mine, theirs = np.intersect1d(look["image"], other["image"], return_indices=True)
    if not len(mine) or len(mine) < _SHARED * min(len(look), len(other)):
        return False
    others = int(np.count_nonzero(look["original"][mine] != other["original"][theirs]))
    return others <= max(1, int((1 - _SAME_ORIGINAL) * len(mine)))


def _store(path: Path, look: np.ndarray) -> None:
    """Write a new file, whole or not at all.

    Raises:
        FileExistsError: there is one of that name.
        OSError: it cannot be written.
    """
    content = BytesIO()
    np.lib.format.write_array(content, look, allow_pickle=False)
    partial = path.with_name(f".look-{secrets.token_hex(8)}")
    try:
        partial.write_bytes(content.getvalue())
        try:
            path.hardlink_to(partial)  # a name that is taken is refused, where renaming would replace it
        except FileExistsError:
            raise
        except OSError:  # this file system has no such links
            with path.open("xb") as file:
                file.write(content.getvalue())
    finally:
        with suppress(OSError):
            partial.unlink()
