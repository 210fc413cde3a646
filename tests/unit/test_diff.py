"""How two records differ, to the bit, and what mends it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from chromasync.lab.fake import MODERN
from chromasync.model import Change, Floats, Metadata, MetadataValue, Records, Space
from chromasync.reconcile.diff import (
    COSINE_TOLERANCE,
    Differ,
    Difference,
    Whole,
    carried,
    describe,
    metadata_delta,
    same_embedding,
    same_value,
)
from tests.support.ledgers import joined, record

EXACT = [Space.L2, Space.IP]


def vector(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def difference(wanted: Records, present: Records, space: Space = Space.L2) -> Difference:
    return Differ(space).difference(wanted, 0, present, 0)


@pytest.mark.parametrize("space", Space)
def test_equal_embeddings_are_the_same_everywhere(space: Space) -> None:
    """The same values are the same in any space, zeros included."""
    for one in (vector(1, 2, 3), vector(0, 0, 0), vector(-0.0, 0), vector()):
        assert same_embedding(one, one.copy(), space)
    assert same_embedding(vector(0.0), vector(-0.0), space)


@pytest.mark.parametrize("space", Space)
def test_embeddings_of_other_length_differ(space: Space) -> None:
    """Another dimension is another embedding, whatever the values."""
    assert not same_embedding(vector(0, 0), vector(0), space)
    assert not same_embedding(vector(), vector(0), space)


@pytest.mark.parametrize("space", EXACT)
def test_one_bit_counts_in_l2_and_ip(space: Space) -> None:
    """Where a server returns what was written, one ulp is a difference."""
    nudged = vector(1, 2, 3)
    nudged[2] = np.nextafter(nudged[2], np.float32(9))
    assert not same_embedding(vector(1, 2, 3), nudged, space)


def test_cosine_forgives_a_millionth_of_the_length() -> None:
    """Up to the tolerance of the vector's length is the same, beyond it is not."""
    one = vector(3, 0, 4)
    within, beyond = one.copy(), one.copy()
    within[1] = 5 * COSINE_TOLERANCE * 0.99
    beyond[1] = 5 * COSINE_TOLERANCE * 1.01
    assert same_embedding(one, within, Space.COSINE)
    assert not same_embedding(one, beyond, Space.COSINE)
    assert not same_embedding(one, -one, Space.COSINE)
    assert not same_embedding(one, 2 * one, Space.COSINE)
    assert not same_embedding(vector(0, 0), vector(1e-30, 0), Space.COSINE)


VALUES: list[MetadataValue] = [
    1, 1.0, "1", True, 0, 0.0, "", False, [1], [1.0], ["1"], [True], [1, 1], [], [True, 1],
]  # fmt: skip


def test_values_are_the_same_only_with_their_type() -> None:
    """No two values of different type or shape are the same, and each is the same as itself."""
    for n, one in enumerate(VALUES):
        for m, other in enumerate(VALUES):
            assert same_value(one, other) is (n == m), (one, other)


@pytest.mark.parametrize("value", [0.1, -0.1, 1e300, 1e-300, math.pi, 1.7e308])
def test_a_float_may_be_off_by_an_ulp(value: float) -> None:
    """One ulp up or down is the drift of a hop; a relative 1e-14 is another value."""
    for other in (math.nextafter(value, math.inf), math.nextafter(value, -math.inf)):
        assert same_value(value, other)
        assert same_value(["x", value], ["x", other])
    assert not same_value(value, value * (1 - 1e-14))
    assert not same_value(value, -value)


def test_zero_has_no_neighbours() -> None:
    """The tolerance is relative, so nothing but a zero is a zero."""
    assert same_value(0.0, -0.0)
    assert not same_value(0.0, 1e-300)


@pytest.mark.parametrize(
    ("wanted", "present", "delta"),
    [
        ({}, {}, None),
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 1.0}, {"a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        ({}, {"a": 1, "b": [1]}, {"a": None, "b": None}),
        ({"a": [1, 2], "k": "x"}, {"a": [2, 1], "k": "x", "z": 0}, {"a": [1, 2], "z": None}),
    ],
)
def test_a_delta_names_only_what_differs(
    wanted: Metadata, present: Metadata, delta: object
) -> None:
    """Keys to set with their value, keys to remove with None, equal keys not at all."""
    assert metadata_delta(wanted, present) == delta


def test_each_field_changes_alone() -> None:
    """A difference in one field sends that field and no other."""
    base = record("a", "d", {"k": 1}, "u", [1, 2])
    changed = {
        "document": record("a", "", {"k": 1}, "u", [1, 2]),
        "metadata": record("a", "d", {"k": 2}, "u", [1, 2]),
        "uri": record("a", "d", {"k": 1}, "v", [1, 2]),
        "embedding": record("a", "d", {"k": 1}, "u", [1, 3]),
    }
    for name, wanted in changed.items():
        found = difference(wanted, base)
        assert isinstance(found, Change)
        assert describe(found) == name
        sent = {f for f in ("document", "metadata", "uri", "embedding") if getattr(found, f)
                is not None}  # fmt: skip
        assert (sent, found.clear_uri) == ({name}, False)
    assert difference(base, base) is None


def test_a_uri_that_went_is_cleared() -> None:
    """No uri where there was one is a clearing, not a null that says nothing."""
    found = difference(record("a"), record("a", uri="u"))
    assert found == Change("a", clear_uri=True)
    assert describe(found) == "uri"
    assert difference(record("a", uri=""), record("a")) == Change("a", uri="")


def test_only_a_document_that_went_needs_a_replacement() -> None:
    """No write can take a document back, so the record is replaced; an empty one is a value."""
    assert difference(record("a"), record("a", "d")) is Whole.REPLACE
    assert difference(record("a"), record("a", "")) is Whole.REPLACE
    assert difference(record("a", ""), record("a")) == Change("a", document="")
    assert difference(record("a", ""), record("a", "d")) == Change("a", document="")


def test_rows_are_compared_where_they_stand() -> None:
    """The two rows named are compared, wherever they stand in their answers."""
    wanted = joined(record("x", "other"), record("a", "d"))
    present = joined(record("a", "d"), record("x", "old"))
    assert Differ(Space.L2).difference(wanted, 1, present, 0) is None
    assert Differ(Space.L2).difference(wanted, 0, present, 1) == Change("x", document="other")


def test_embeddings_that_were_not_read_are_not_compared() -> None:
    """When one side was read without embeddings, only the rest can differ."""
    bare = Records(["a"], [None], [{}], [None], None)
    assert difference(bare, record("a")) is None
    assert difference(record("a"), bare) is None


def test_differences_have_words() -> None:
    """Every kind of difference says which fields it is about."""
    assert describe(None) == ""
    assert describe(Whole.INSERT) == describe(Whole.REBUILD) == "the whole record"
    assert describe(Whole.REBUILD) == "the whole record"
    assert describe(Whole.REPLACE) == "document"
    every = Change("a", vector(1), "d", {"k": None}, "u")
    assert describe(every) == "embedding, document, metadata, uri"


def test_what_a_server_cannot_hold_is_left_out_and_counted() -> None:
    """Hidden keys always, lists where the server has none; other records stay as they are."""
    given = joined(
        record("a", metadata={"k": 1, "l": ["x"]}),
        record("b", metadata={"chroma:document": "x", "k": 1}),
        record("c", metadata={"k": 1}),
    )
    modern, count = carried(given, MODERN)
    assert (modern.metadatas, count) == ([{"k": 1, "l": ["x"]}, {"k": 1}, {"k": 1}], 1)
    old, count = carried(given, replace(MODERN, arrays=False))
    assert (old.metadatas, count) == ([{"k": 1}, {"k": 1}, {"k": 1}], 2)
    assert old.ids == given.ids
    plain = record("c", metadata={"k": 1})
    assert carried(plain, MODERN) == (plain, 0)
