"""Digests laid end to end: rows are read, taken and changed one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.model import DIGEST_BYTES, UNKNOWN_DIGEST, AppliedDigests, Digests
from tests.support.properties import examples

ROWS = st.lists(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), max_size=8)


@examples(100)
@given(rows=ROWS, data=st.data())
def test_digests_behave_as_a_list_of_rows(rows: list[bytes], data: st.DataObject) -> None:
    """Rows, selections and changes are those of a list of digests."""
    digests = Digests.of(rows)
    assert digests.rows == len(rows)
    assert [digests.row(n) for n in range(len(rows))] == rows
    places = st.integers(0, max(0, len(rows) - 1))
    some = data.draw(st.lists(places, max_size=8)) if rows else []
    assert digests.take(some) == b"".join(rows[n] for n in some)
    changes = data.draw(st.dictionaries(places, ROWS.map(lambda r: (r or [b"x" * 16])[0])))
    changes = changes if rows else {}
    assert digests.changed(changes) == b"".join(changes.get(n, row) for n, row in enumerate(rows))
    assert digests.known().tolist() == [row != UNKNOWN_DIGEST for row in rows]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_digest_of_the_replica_means_that_none_is_known(rows: int) -> None:
    """The replica's digests are unknown for all records if none is given."""
    written = Digests.of([b"w" * DIGEST_BYTES] * rows)
    applied = AppliedDigests(written, written)
    assert applied.replica == Digests.unknown(rows)
    assert applied.written.tolist() == [True] * rows
    assert applied.take(range(rows)) == applied
