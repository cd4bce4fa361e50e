"""Over how many parts a namespace is spread, and which key is in which (P44, parts)."""

from __future__ import annotations

from typing import Final
from zlib import crc32

#: The most parts that a namespace may have.
MAX_PARTITIONS: Final = 256


def part_of(key: str, partitions: int) -> int:
    """Return the number of the part that ``key`` is in, from 0 on.

    It can never change: it says where the data are.
    """
    return crc32(key.encode()) % partitions


def checked_partitions(partitions: object) -> int:
    """Return a number of parts, if it may be one; else raise `TypeError` or `ValueError`."""
    if not isinstance(partitions, int) or isinstance(partitions, bool):
        raise TypeError(f"partitions must be an int, not {type(partitions).__name__}")
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions must be from 1 to {MAX_PARTITIONS}, not {partitions}")
    return int(partitions)
