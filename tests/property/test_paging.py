"""Pages of a collection that others write to: every record that stays comes out."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from chromasync.ledger.paging import stitched
from tests.support.ledgers import names
from tests.support.properties import examples

PAGE = 5
BUSY = 20
"""Answers before which something happens; then it is quiet, so that the walk may end."""


class Busy:
    """A server's ids: before each answer some records go, move to the end, or come.

    One that caps its answers shows no end, by which a record that moved could be told; there all
    that go stay away.
    """

    def __init__(self, seed: int, count: int, most: int, cap: int) -> None:
        self.ids = names(count)
        self.touched: set[str] = set()
        self._chance = random.Random(seed)
        self._most = most
        self._cap = cap
        self._asked = 0

    def ask(self, offset: int, limit: int) -> list[str]:
        """The answer, after what happens before it."""
        self._asked += 1
        assert self._asked < 500, "it never ends"
        if self._asked < BUSY:
            self._happen()
        return self.ids[offset : offset + min(limit, self._cap)]

    def _happen(self) -> None:
        pick = self._chance
        gone = pick.sample(self.ids, pick.randint(0, min(self._most, len(self.ids))))
        again = gone[: pick.randint(0, len(gone))] if self._cap > len(self.ids) else []
        added = [f"x{self._asked}-{n}" for n in range(pick.randint(0, 3))]
        self.touched.update(gone)
        self.ids = [i for i in self.ids if i not in set(gone)] + again + added


@examples(500)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 150),
    most=st.integers(0, 40),
    capped=st.booleans(),
)
def test_every_record_that_stays_comes_once(seed: int, count: int, most: int, capped: bool) -> None:
    """However many go, come or move between any two pages."""
    server = Busy(seed, count, most, 4 if capped else 10**9)
    found = [i for ids in stitched(server.ask, count, PAGE) for i in ids]
    stayed = [i for i in names(count) if i not in server.touched]
    assert [i for i in found if i in set(stayed)] == stayed
