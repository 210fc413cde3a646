"""Packed ids are a list of ids, in less memory."""

from __future__ import annotations

import pytest

from chromasync.model import PackedIds, pack_ids

IDS = ["b", "a", "", "größe", "a"]


def test_packed_ids_are_the_list() -> None:
    """They are iterated, counted and indexed like it, as often as needed."""
    packed = PackedIds.of(IDS)
    assert list(packed) == list(packed) == IDS
    assert len(packed) == 5
    assert (packed[0], packed[-1], packed[1:3]) == ("b", "a", ["a", ""])
    assert ("a" in packed, "x" in packed) == (True, False)
    assert packed == IDS
    assert packed == PackedIds(pack_ids(IDS))
    assert packed != IDS[1:]
    assert packed != 5
    assert hash(packed) == hash(PackedIds.of(IDS))


@pytest.mark.parametrize("blob", [b"", b"no", pack_ids(IDS)[:-3]])
def test_damage_is_found_at_once(blob: bytes) -> None:
    """And not when the ids are needed."""
    with pytest.raises(ValueError, match=r"\w"):
        PackedIds(blob)
