"""All ids of a collection, page by page, although records are deleted between two pages.

A delete before the cursor shifts every later id left. A page that began where the last one ended
would begin too late, and an id that slipped past it would go unseen: a ledger that never knew it
cannot miss it. So each page begins a few ids *before* the cursor. When it begins with an id that
was seen, whatever slipped is in it; when not, more was deleted than that, and it is asked for
further left, if need be from the start.

What else may happen between two pages:

* Adds come at the end. A record deleted and added again comes there too, and could pass for one
  that kept its place; that needs the end of the collection in sight, so a page that has it and
  does not continue the last one to the letter is asked for again, from as far as is remembered.
* A server that caps its answers shows no end until the count is reached; such a page is trusted
  when its first id was seen.
* More records are deleted than ids are remembered: the ids come from the start, once. The walk
  sorts out repeats.
* The server lists in another order each time: then this is plain paging, and what goes unseen or
  comes twice is the walk's to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from chromasync.model import Collection
from chromasync.ports import Reader

OVERLAP = 16
"""Ids that each page repeats: more deletes than that between two pages cost another request."""

STEP = 64
"""By how much further left the next question begins."""

REMEMBERED = 100_000
"""Ids seen last that are remembered (about 10 MB)."""

PAGE_IDS = 100_000
"""Ids in one page: each page sorts the whole collection on the server, so few large ones win."""

SMALLEST_CAP = 100
"""No server caps an answer below so many ids; a shorter one that is asked for more is the last."""

Ask = Callable[[int, int], list[str]]
"""The server's ids from an offset on, at most so many."""

Count = int | Callable[[], int]
"""Records that the server counted, or a way to ask when that matters."""


def pages(reader: Reader, collection: Collection, count: Count) -> Iterator[list[str]]:
    """All ids of a collection, also those that deletes shift from one page to the one before.

    Args:
        count: records that the server counted; a short page before that is not the last.
    """
    return stitched(
        lambda offset, limit: reader.list_ids(collection, offset=offset, limit=limit),
        count,
        PAGE_IDS,
    )


def stitched(ask: Ask, count: Count, size: int) -> Iterator[list[str]]:
    """All ids that the server has, in lists of `size` or a few more, the last one fewer.

    A collection at rest comes in order and once. Each list may be stored in one transaction, so
    what a server gives in small answers is gathered.

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
    """A place between the ids that were seen and those that were not."""

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
        """How far before the cursor every id is remembered; deletes only ever bring later ones."""
        return min(len(self._recent), self._at)

    def _unseen(self, page: list[str], back: int, *, short: bool) -> list[str] | None:
        """What a page from `back` before the cursor has to tell; None when it may begin too late.

        Nothing that was not seen stands before an id that kept its place and was.
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
        """How far before the cursor the next question begins, as `page` began too late."""
        if back < self._nearby:
            return min(back * STEP, self._nearby)
        if self._restarted or self._is_shuffled(page):
            self._overlap = 0
            return 0
        self._restarted = True
        return self._at

    def _is_shuffled(self, page: list[str]) -> bool:
        """Whether ids that were seen come in another order now."""
        places = {record_id: n for n, record_id in enumerate(self._recent)}
        seen = [places[record_id] for record_id in page if record_id in places]
        return any(before > after for before, after in pairwise(seen))

    def _is_last(self, page: list[str], fresh: list[str], count: Count) -> bool:
        """Whether a page with fewer ids than asked for is the end, or all that the server gives."""
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
