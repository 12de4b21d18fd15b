"""Which images a compression may learn from, which it may choose by, and which alone may judge it.

An image's part follows from its bytes: more images move none of those that were there, and copies stay together,
whatever they are called and wherever they lie.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["calibrate", "search", "certify"]

#: Of many images about so many are in each part. Most are to judge: that is where each one counts.
SHARES: dict[Part, float] = {"calibrate": 0.15, "search": 0.25, "certify": 0.6}

#: Named in the hash, so that no other use of SHA-256 over the same bytes goes along with it.
_PURPOSE = b"vitlet parts 1\0"


def part_of(content: bytes) -> Part:
    """The part of the image that these bytes hold: a file's, or a data set's pixels."""
    number = int.from_bytes(hashlib.sha256(_PURPOSE + content).digest()[:8], "big") / 2**64
    bound = 0.0
    for part, share in SHARES.items():
        bound += share
        if number < bound:
            return part
    return "certify"


def expected_in(part: Part | None, count: int) -> int:
    """About how many of ``count`` images belong to a part; all of them if there is none."""
    return count if part is None else max(1, round(SHARES[part] * count))


def none_in(part: Part, count: int) -> str:
    """The sentence for the case that no image belongs to a part."""
    return f"none of the {count} images falls to the part to {part} with, which {SHARES[part]:.0%} do; give more images"
