"""Reads all ids of a collection page by page, although records are deleted between two pages.

A delete before the cursor shifts every later id left. If a page began where the last one ended, an
id that was shifted over the cursor would never be seen, and the ledger could not report it as
missing. So each page begins a few ids *before* the cursor. If a page begins with a seen id, it has
all ids that were shifted. If it does not, more records were deleted than the overlap, and the page
is requested again from further left, if necessary from the start.

Other changes between two pages:

* Records are added at the end. A record that is deleted and added again is at the end, too, and it
  could pass for one that kept its place. This can only happen in a page with the end of the
  collection. So such a page must continue the last one exactly. Otherwise it is requested again,
  from as far left as ids are remembered.
* A server that caps its answers shows no end until the count is reached. Such a page is trusted if
  its first id was seen.
* If more records are deleted than ids are remembered, the ids are read from the start, once. The
  walk sorts out repeats.
* If the server lists in another order each time, this is plain paging. The walk detects ids that
  are missing or come twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from chromasync.model import Collection
from chromasync.ports import Reader

OVERLAP = 16
"""Ids that each page repeats; more deletes than that between two pages cost a request."""

STEP = 64
"""Factor by which the overlap of the next request grows."""

REMEMBERED = 100_000
"""Number of the last ids that are remembered (about 10 MB)."""

PAGE_IDS = 100_000
"""Ids in one page: each page sorts the whole collection on the server, so few large ones win."""

SMALLEST_CAP = 100
"""No server caps its answers below so many ids, so a page with fewer is the last one."""

Ask = Callable[[int, int], list[str]]
"""The server's ids from an offset on, at most so many."""

Count = int | Callable[[], int]
"""The server's count of records, or a function that asks for it when it is needed."""


def pages(reader: Reader, collection: Collection, count: Count) -> Iterator[list[str]]:
    """All ids of a collection, also those that deletes shift to the previous page.

    Args:
        count: records that the server counted; a short page before that is not the last.
    """
    return stitched(
        lambda offset, limit: reader.list_ids(collection, offset=offset, limit=limit),
        count,
        PAGE_IDS,
    )


def stitched(ask: Ask, count: Count, size: int) -> Iterator[list[str]]:
    """All ids that the server has, in lists of `size` or a few more; the last list is shorter.

    If the collection does not change, each id comes once and in order. The caller may store each
    list in one transaction, so small answers of a server are joined.

    Args:
        count: records that the server counted; a short page before that is not the last.
    """
    cursor = _Cursor(ask, size)
    gathered: list[str] = []
    ended = False
    while not ended:
        ids, ended = cursor.advance(count)
        gathered += ids
        if gathered and (ended or len(gathered) >= size):
            yield gathered
            gathered = []


class _Cursor:
    """The position between the ids that were seen and those that were not."""

    def __init__(self, ask: Ask, size: int) -> None:
        self._ask = ask
        self._size = size
        self._at = 0
        self._recent: list[str] = []
        self._overlap = OVERLAP
        self._cap = 0
        self._restarted = False

    def advance(self, count: Count) -> tuple[list[str], bool]:
        """The next ids that were not seen, and whether they are the last."""
        back = min(self._overlap, self._nearby)
        while True:
            limit = self._size + min(back, REMEMBERED)
            page = self._ask(self._at - back, limit)
            short = len(page) < limit
            fresh = self._unseen(page, back, short=short)
            if fresh is not None:
                break
            back = self._further(page, back)
        self._at += len(page) - back
        self._recent = (self._recent + fresh)[-REMEMBERED:]
        return fresh, short and self._is_last(page, fresh, count)

    @property
    def _nearby(self) -> int:
        """How many ids before the cursor are remembered; deletes only bring later ids there."""
        return min(len(self._recent), self._at)

    def _unseen(self, page: list[str], back: int, *, short: bool) -> list[str] | None:
        """The unseen ids of a page that begins `back` ids early; None if it may begin too late.

        No unseen id can lie before a seen one that kept its place. So a page that starts with a
        seen id starts early enough.
        """
        if back == 0 or page[:back] == self._recent[-back:]:
            return page[back:]
        known = set(self._recent)
        if back < self._at:
            doubtful = short and not self._cap and back < self._nearby
            if doubtful or not page or page[0] not in known:
                return None
        return [record_id for record_id in page if record_id not in known]

    def _further(self, page: list[str], back: int) -> int:
        """How far before the cursor the next request begins, because `page` began too late."""
        if back < self._nearby:
            return min(back * STEP, self._nearby)
        if self._restarted or self._is_shuffled(page):
            self._overlap = 0
            return 0
        self._restarted = True
        return self._at

    def _is_shuffled(self, page: list[str]) -> bool:
        """Whether seen ids come in another order now."""
        places = {record_id: n for n, record_id in enumerate(self._recent)}
        seen = [places[record_id] for record_id in page if record_id in places]
        return any(before > after for before, after in pairwise(seen))

    def _is_last(self, page: list[str], fresh: list[str], count: Count) -> bool:
        """Whether a page that is shorter than requested is the last one; otherwise it is capped."""
        if callable(count):
            if self._at < SMALLEST_CAP:
                return True
            count = count()
        if self._at >= count:
            return True
        if not fresh:
            return not self._cap or len(page) < self._cap
        self._cap = self._cap or len(page)
        self._overlap = min(self._overlap, self._cap // 2)
        return False
