"""The expected time of a cycle, from the reads of its plan and the rates of its writes.

A plan reads all that the cycle will read, so it has measured that: the cycle reads the same, with
more threads. Writes cannot be tried. Their time follows from their number, dimension and text
(`sizing.effort`), and from the pace of this replica in earlier cycles. Before the first cycle the
replica counts as fast as the primary was while the plan read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chromasync.config import Settings
from chromasync.dryrun.draft import Draft
from chromasync.model import Traffic
from chromasync.ports import Reader, Store
from chromasync.sizing.effort import Load, Writes, fixed_seconds, read_seconds, write_seconds
from chromasync.sizing.pace import read_pace, write_pace
from chromasync.sizing.table import Rates, load_table

HISTORY_SECONDS = 7 * 86_400.0
LEAST_GUESS = 1.0
"""A primary that reads fast shows little about a replica's writes; measured copies show more."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a plan read, and what its cycle sends.

    Attributes:
        traffic: the plan's own requests to the primary.
        read: the records that it read there.
        sent: what the cycle sends to the replica.
        collections: the number of planned collections.
        present: records on the replica in the largest of them.
    """

    traffic: Traffic
    read: Load
    sent: Writes
    collections: int
    present: int = 0


class Expected:
    """Measures the reads of a plan from its creation on."""

    def __init__(self, primary: Reader, store: Store, settings: Settings) -> None:
        self._primary = primary
        self._store = store
        self._settings = settings
        self._began = primary.traffic()

    def seconds(self, drafts: Sequence[Draft], deleted: int) -> float:
        """The expected duration of the cycle.

        Args:
            drafts: the planned collections.
            deleted: records to delete, those of whole collections included.
        """
        rates = load_table(self._settings.sync_advice_table).rates
        sent = sum((draft.writes for draft in drafts), Writes(deleted=deleted))
        whole = sent.new + sent.again
        history = self._store.measurements(HISTORY_SECONDS)
        average = whole.floats / whole.records if whole.records else 0.0
        amounts = Amounts(
            self._primary.traffic() - self._began,
            _read(drafts),
            sent,
            len(drafts),
            max((draft.mirror.replica_count for draft in drafts), default=0),
        )
        threads = self._settings.worker_threads
        return expected_seconds(amounts, write_pace(history, average, rates), threads, rates)


def expected_seconds(
    amounts: Amounts, measured_pace: float | None, threads: int, rates: Rates
) -> float:
    """The expected duration of a cycle.

    Args:
        measured_pace: the pace of the replica in earlier cycles; None before the first one.
        threads: worker threads of this process.
    """
    pace = read_pace(amounts.traffic, amounts.read, rates)
    replica_pace = max(pace, LEAST_GUESS) if measured_pace is None else measured_pace
    sent = amounts.sent
    writing = write_seconds(sent, rates, present=amounts.present) * replica_pace
    checking = read_seconds(sent.new + sent.again + sent.parts, rates) * replica_pace
    reading = amounts.traffic.seconds + checking
    fixed = fixed_seconds(amounts.collections, rates) * max(pace, replica_pace)
    # a thread reads while another waits for a write
    return fixed + max(writing + reading / (threads + 1), reading / max(threads, 1))


def _read(drafts: Sequence[Draft]) -> Load:
    """The records that the plan read from the primary."""
    records = sum(draft.counts.read for draft in drafts)
    floats = sum(draft.counts.read * (draft.pairing.primary.dimension or 0) for draft in drafts)
    return Load(records, floats)
