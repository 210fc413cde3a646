"""Scrubs tiny collections during the walk: they are read whole, so the scrub needs no task.

A task costs several transactions and a request of its own. That is little beside the records of a
full chunk, but it is most of a cycle over 1,500 collections with three records each. So the tiny
collections that are due for a scrub are chosen before the walk, within the same budget, and the
walk reads their content instead of their ids. If ids and digests equal the ledger's, one
transaction notes all these chunks as read. If anything differs, nothing is noted: a task reads the
chunk again and reconciles it.

Some chunks are left to tasks from the beginning: those that must be read or compared with the
replica, those with waiting deletions, and those that the replica cannot hold whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chromasync.cycle.ahead import TINY, Content
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.ledger.plan import must_read
from chromasync.ledger.scrub import choose_scrubs
from chromasync.model import Chunk, ChunkHead


class TinyScrubs:
    """The tiny collections that one cycle reads whole.

    Args:
        heads: each collection's chunks before the walk.
        budget_seconds: reading time for the scrubs of this cycle.

    Attributes:
        chosen: the chunk of each chosen collection, by the collection's key.
    """

    def __init__(
        self, cycle: CycleWork, heads: Mapping[str, Sequence[ChunkHead]], budget_seconds: float
    ) -> None:
        self._cycle = cycle
        due = [head for part in heads.values() for head in part if not must_read(head)]
        tiny = {work.mirror.collection_id for work in cycle.collections if _is_tiny(work, heads)}
        self.chosen = {
            scrub.head.collection_id: scrub.head
            for scrub in choose_scrubs(due, budget_seconds, cycle.check_before)
            if scrub.head.collection_id in tiny and not scrub.check_replica
        }
        cycle.tiny_seconds = sum(head.read_seconds for head in self.chosen.values())

    def note(self, contents: Mapping[str, Content]) -> None:
        """Note the chunks that equal the ledger as read in this cycle.

        Args:
            contents: the content that was read, by the collection's key.
        """
        works = [w for w in self._cycle.collections if w.mirror.collection_id in contents]
        unchanged = [work for work in works if work.error is None and not work.hints]
        heads = [self.chosen[work.mirror.collection_id] for work in unchanged]
        chunks = self._cycle.store.load_chunks([head.id for head in heads])
        same = {
            chunk.head.collection_id
            for chunk in chunks
            if _is_same(chunk, contents[chunk.head.collection_id])
        }
        self._cycle.store.note_read(
            self._cycle.cycle, [head for head in heads if head.collection_id in same]
        )
        for work in unchanged:
            if work.mirror.collection_id in same:
                work.read = self.chosen[work.mirror.collection_id].count


def _is_tiny(work: CollectionWork, heads: Mapping[str, Sequence[ChunkHead]]) -> bool:
    chunks = heads[work.mirror.collection_id]
    if work.mirror.adopting or work.primary.dimension is None or len(chunks) != 1:
        return False
    (head,) = chunks
    return head.count <= TINY and not head.replica.gone_count and not head.replica.reduced_count


def _is_same(chunk: Chunk, content: Content) -> bool:
    """Whether a chunk has this content and did not become suspect meanwhile."""
    known = Content(chunk.head.ids_digest, chunk.applied.embedding, chunk.applied.payload)
    return known == content and not must_read(chunk.head)
