"""Collections that a cycle would not write to, because someone must decide about adopting them."""

from __future__ import annotations

from dataclasses import replace

from chromasync.model import Hold
from chromasync.plan.listing import place_of
from chromasync.plan.pairing import Pairing, Pairings
from chromasync.plan.sampler import Sampler, judge_adoption
from chromasync.reports import PlannedAction, PlannedCollection


class Undecided:
    """Replica collections that are in no ledger and are not mostly the same as the primary's.

    Attributes:
        planned: their entries in the plan.
        accepted: the collections whose adoption was approved.
        records: number of the primary's records in them.
    """

    def __init__(self, sampler: Sampler, holds: list[Hold], *, beside: bool) -> None:
        self._sampler = sampler
        self._holds = holds
        self._beside = beside
        self.planned: list[PlannedCollection] = []
        self.accepted: set[str] = set()
        self.records = 0

    def set_apart(self, pairings: Pairings) -> Pairings:
        """The pairings without these collections.

        Raises:
            ServerError: one side could not be read.
        """
        left = [pairing for pairing in pairings.pairings if not self._takes(pairing)]
        return replace(pairings, pairings=left)

    def _takes(self, pairing: Pairing) -> bool:
        verdict = judge_adoption(self._sampler, pairing, self._holds, beside=self._beside)
        if verdict is None or verdict.hold is None:
            return False
        if verdict.is_decided:
            self.accepted.add(verdict.hold.collection_id)
            return False
        self.records += verdict.likeness.primary_count
        self.planned.append(
            PlannedCollection(
                *place_of(pairing.primary),
                PlannedAction.HOLD,
                held=True,
                reason=verdict.hold.reason,
                undecided=True,
            )
        )
        return True
