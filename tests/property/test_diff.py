"""For any two records: what the differ sends makes them equal, and is no more than needed."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chromasync.lab.fake import FakeServer
from chromasync.ledger.digest import payload_digests
from chromasync.model import Change, Collection, Floats, Records, Space
from chromasync.reconcile.diff import (
    COSINE_TOLERANCE,
    Differ,
    Whole,
    metadata_delta,
    same_embedding,
    same_value,
)
from tests.support.ledgers import arrays as lists
from tests.support.ledgers import contents, metadatas, scalars
from tests.support.properties import examples

spaces = st.sampled_from(list(Space))
embeddings = arrays(
    np.float32,
    st.integers(1, 6),
    elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
)


def mended(server: FakeServer, home: Collection, differ: Differ, wanted: Records) -> Records:
    """What the server holds after the difference was sent."""
    difference = differ.difference(wanted, 0, server.contents(home), 0)
    match difference:
        case Change():
            server.update(home, [difference])
        case Whole():
            server.delete(home, wanted.ids)
            server.upsert(home, wanted)
        case None:
            pass
    return server.contents(home)


@examples(400)
@given(contents(), contents(), spaces)
def test_what_is_sent_makes_them_equal(wanted: Records, present: Records, space: Space) -> None:
    """After the change, or the replacement, nothing differs any more, payload digests included."""
    server = FakeServer()
    home = server.make()
    server.upsert(home, present)
    after = mended(server, home, Differ(space), wanted)
    assert Differ(space).difference(wanted, 0, after, 0) is None
    if all(map(same_bits, wanted.metadatas, after.metadatas)):
        assert payload_digests(after) == payload_digests(wanted)


def same_bits(one: object, other: object) -> bool:
    return repr(one) == repr(other)


@examples(400)
@given(contents(), contents(), spaces)
def test_what_is_sent_is_what_differs(wanted: Records, present: Records, space: Space) -> None:
    """A field is in the change just when it differs, and a metadata key likewise."""
    difference = Differ(space).difference(wanted, 0, present, 0)
    lost_document = wanted.documents[0] is None and present.documents[0] is not None
    assert (difference is Whole.REPLACE) is lost_document
    assume(isinstance(difference, Change))
    assert isinstance(difference, Change)
    values = {f.name: getattr(difference, f.name) for f in fields(Change)}
    sent = {name for name, value in values.items() if value is not None and value is not False}
    assert ("document" in sent) is (wanted.documents[0] != present.documents[0])
    assert bool({"uri", "clear_uri"} & sent) is (wanted.uris[0] != present.uris[0])
    assert not {"uri", "clear_uri"} <= sent
    delta = difference.metadata or {}
    for key in {*wanted.metadatas[0], *present.metadatas[0]}:
        both = key in wanted.metadatas[0] and key in present.metadatas[0]
        equal = both and same_value(wanted.metadatas[0][key], present.metadatas[0][key])
        assert (key in delta) is not equal


@examples(300)
@given(metadatas, metadatas)
def test_a_delta_applied_leaves_no_delta(
    wanted: dict[str, object], present: dict[str, object]
) -> None:
    """Setting and removing what the delta says gives the wanted keys, in value and type."""
    delta = metadata_delta(wanted, present) or {}  # type: ignore[arg-type]
    after = {**present, **delta}
    after = {key: value for key, value in after.items() if value is not None}
    assert metadata_delta(wanted, after) is None  # type: ignore[arg-type]
    assert after.keys() == wanted.keys()
    assert all(type(after[key]) is type(wanted[key]) for key in wanted)


@examples(300)
@given(st.one_of(scalars, lists), st.one_of(scalars, lists))
def test_values_of_different_types_are_never_the_same(one: object, other: object) -> None:
    """Sameness is symmetric, keeps types apart, and is plain equality but for floats."""
    same = same_value(one, other)  # type: ignore[arg-type]
    assert same is same_value(other, one)  # type: ignore[arg-type]
    if type(one) is not type(other):
        assert not same
    elif not isinstance(one, float | list):
        assert same is (one == other)
    assert same_value(one, one)  # type: ignore[arg-type]


@examples(300)
@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_an_ulp_is_no_difference(value: float) -> None:
    """Every normal float is the same as its two neighbours, and as nothing far away."""
    for other in (math.nextafter(value, math.inf), math.nextafter(value, -math.inf)):
        if value and math.isfinite(other):
            assert same_value(value, other)
    if value:
        assert not same_value(value, value * (1 + 4e-15))


@examples(200)
@given(embeddings)
def test_a_round_trip_through_a_unit_vector_is_forgiven_in_cosine_only(one: Floats) -> None:
    """What a cosine index gives back is the same; in l2 and ip it is, just when no bit changed."""
    length = np.linalg.norm(one)
    assume(length > 0)
    back = ((one / length) * length).astype(np.float32)
    assert same_embedding(one, back, Space.COSINE)
    for space in (Space.L2, Space.IP):
        assert same_embedding(one, back, space) is bool(np.array_equal(one, back))


@examples(200)
@given(embeddings, st.integers(0, 5), st.sampled_from([0.5, 2.0, 10.0]), st.booleans())
def test_the_cosine_tolerance_is_a_bound(
    one: Floats, place: int, factor: float, down: bool
) -> None:
    """One component off by less than the tolerance of the length is the same, by more is not."""
    length = float(np.linalg.norm(one.astype(np.float64)))
    assume(length > 1e-3)
    step = factor * COSINE_TOLERANCE * length * (-1 if down else 1)
    other = one.copy()
    other[place % len(one)] += np.float32(step)
    off = abs(float(other[place % len(one)]) - float(one[place % len(one)]))
    assume(off > 0)
    assert same_embedding(one, other, Space.COSINE) is (off <= COSINE_TOLERANCE * length)
    assert not same_embedding(one, other, Space.L2)
