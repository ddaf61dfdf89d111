"""Damage of files: what disks, networks and interrupted copies do to bytes."""

from __future__ import annotations

from hypothesis import strategies as st

KINDS = ("flip", "write", "zero", "cut", "drop", "repeat", "swap")


def damages(most: int = 4) -> st.SearchStrategy:
    """One to ``most`` damages, each (kind, place and length as shares of the file, number)."""
    share = st.floats(0, 1, exclude_max=True)
    small = st.sampled_from((0.0, 0.001, 0.01, 0.1, 0.5))
    one = st.tuples(st.sampled_from(KINDS), share, small, st.integers(0, 2**32 - 1))
    return st.lists(one, min_size=1, max_size=most)


def damaged(data: bytes, listed: list[tuple[str, float, float, int]]) -> bytes:
    """The data with these damages, one after the other."""
    for kind, place, share, number in listed:
        data = _damaged(data, kind, int(place * len(data)), int(share * len(data)) + 1, number)
    return data


def _damaged(data: bytes, kind: str, start: int, length: int, number: int) -> bytes:
    before, part, after = data[:start], data[start : start + length], data[start + length :]
    if not part:
        return data
    if kind == "flip":
        return before + bytes([part[0] ^ (1 << number % 8)]) + part[1:] + after
    if kind == "write":  # sizes and counts are often four bytes
        return before + number.to_bytes(4, "big") + data[start + 4 :]
    if kind == "zero":
        return before + bytes(len(part)) + after
    if kind == "cut":
        return before + part
    if kind == "drop":
        return before + after
    if kind == "repeat":
        return before + part * 2 + after
    return before + after[: len(part)] + part + after[len(part) :]
