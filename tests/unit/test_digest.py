"""Canonical bytes: what makes two digests equal, what tells them apart, and that they stay."""

from __future__ import annotations

import random

import numpy as np
import pytest

from chromasync.ledger.digest import (
    FORMAT,
    embedding_digests,
    id_digests,
    ids_digest,
    payload_digests,
)
from chromasync.model import DIGEST_BYTES, MetadataValue, Records
from tests.support.ledgers import joined, record


def payload(**parts: object) -> bytes:
    return payload_digests(record(**parts))  # type: ignore[arg-type]


def test_the_written_format_is_as_it_was() -> None:
    """Digests of format 1 have these very bytes; changing them means raising FORMAT."""
    full = record(
        "r0",
        "a text, \u00e4\u20ac\U0001f600",
        {"b": True, "i": 1, "f": 0.1, "s": "x", "l": ["p", "q"], "n": [1.5, 2.0]},
        "file:///x",
        embedding=[1.0, -0.5, 3.25],
    )
    assert FORMAT == 1
    assert embedding_digests(full).hex() == "25e883b66a080bc9ac8a80ba8dad3e9d"
    assert payload_digests(full).hex() == "1f9508744efd31cf5de9beb058ca2aa1"
    assert payload_digests(record()).hex() == "52e3652a2e5454b127abf8cbd8ab609d"
    assert ids_digest(["a", "b"]).hex() == "d8f141e4ef8a533b1994f88d4ca33b0f"
    assert id_digests(["a", "b"]).hex() == (
        "27c35e6e9373877f29e562464e46497e96172b4c53372cd10faddc821bfe0318"
    )


VALUES: list[MetadataValue] = [
    1, 1.0, "1", True, 0, 0.0, "", False, "true", [1], [1.0], ["1"], [True], [], ["1", ""],
]  # fmt: skip


def test_values_of_different_types_differ() -> None:
    """1, 1.0, "1", true and lists of them are different values."""
    digests = {payload(metadata={"k": value}) for value in VALUES}
    assert len(digests) == len(VALUES)


def test_fields_cannot_be_taken_for_each_other() -> None:
    """The same text as document, as uri, as key and as value are different records."""
    digests = [
        payload(),
        payload(document=""),
        payload(uri=""),
        payload(document="x"),
        payload(uri="x"),
        payload(document="x", uri="x"),
        payload(metadata={"x": ""}),
        payload(metadata={"": "x"}),
        payload(document='x","y'),
        payload(document="x", uri="y"),
        payload(document="null"),
    ]
    assert len(set(digests)) == len(digests)


def test_the_order_of_keys_means_nothing_the_order_of_lists_does() -> None:
    """A server gives keys in random order; the values of a list have theirs."""
    items: list[tuple[str, MetadataValue]] = [(f"k{n}", n) for n in range(20)]
    shuffled = random.Random(3).sample(items, len(items))
    assert payload(metadata=dict(items)) == payload(metadata=dict(shuffled))
    assert payload(metadata={"k": [1, 2]}) != payload(metadata={"k": [2, 1]})


def test_an_embedding_s_digest_is_of_its_values_alone() -> None:
    """Memory layout and byte order of the array make no difference, one bit of a value does."""
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain = embedding_digests(with_embeddings(rows))
    assert plain == embedding_digests(with_embeddings(np.asfortranarray(rows)))
    assert plain == embedding_digests(with_embeddings(rows.astype(">f4")))
    assert plain == embedding_digests(with_embeddings(np.repeat(rows, 2, axis=0)[::2]))
    nudged = rows.copy()
    nudged[1, 2] = np.nextafter(nudged[1, 2], np.float32(9))
    other = embedding_digests(with_embeddings(nudged))
    assert [plain.row(n) == other.row(n) for n in range(3)] == [True, False, True]


def with_embeddings(rows: np.ndarray) -> Records:
    count = len(rows)
    return Records(
        [str(n) for n in range(count)], [None] * count, [{}] * count, [None] * count, rows
    )


def test_digests_lie_end_to_end_in_the_order_of_records() -> None:
    """Each record has 16 bytes at its own place, whoever its neighbours are."""
    one = record("a", "x", {"k": 1}, embedding=[1, 2, 3])
    two = record("b", "y", {"k": 2}, embedding=[4, 5, 6])
    both = joined(two, one)
    for digests in (embedding_digests, payload_digests):
        together = digests(both)
        assert len(together) == 2 * DIGEST_BYTES
        assert together.row(0) == digests(two)
        assert together.row(1) == digests(one)


def test_embeddings_that_were_not_read_have_no_digest() -> None:
    """Asking for digests of embeddings of a bare read is a mistake of the caller."""
    bare = Records(["a"], [None], [{}], [None], None)
    with pytest.raises(ValueError, match="with embeddings"):
        embedding_digests(bare)
    assert len(payload_digests(bare)) == DIGEST_BYTES


def test_an_id_list_s_digest_knows_order_and_borders() -> None:
    """Lists differ when their order differs or when ids are cut elsewhere."""
    lists = [[], [""], ["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ['a","b'], ["a,b"]]
    assert len({ids_digest(ids) for ids in lists}) == len(lists)
    assert ids_digest(["a", "b"]) == ids_digest(("a", "b"))
    assert id_digests(["x", "y"]) == id_digests(["x"]) + id_digests(["y"])


def test_no_records_have_no_digests() -> None:
    """Nothing digests to nothing."""
    none = Records([], [], [], [], np.empty((0, 3), dtype=np.float32))
    assert (embedding_digests(none), payload_digests(none), id_digests([])) == (b"", b"", b"")
