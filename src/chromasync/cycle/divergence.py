"""Holds diverged collections, or takes the primary's side if someone approved that."""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Sequence
from dataclasses import replace

from chromasync.cycle.work import CycleWork
from chromasync.model import HoldKind, MirrorStatus
from chromasync.plan.foreign import Diverged
from chromasync.plan.pairing import Pairings, take_out


def hold_diverged(
    cycle: CycleWork, pairings: Pairings, found: Sequence[Diverged], looked_at: Container[str]
) -> None:
    """Take diverged collections out of the cycle; if approved, take the primary's side.

    A hold ends when its collection was checked and has not diverged.
    """
    for diverged in found:
        if diverged.approved:
            _take_side(cycle, pairings, diverged)
            continue
        cycle.store.save_hold(diverged.hold)
        if diverged.mirror is None:
            cycle.undecided.append(diverged.hold)
        else:
            cycle.freeze(diverged.mirror, diverged.hold, MirrorStatus.DIVERGED)
        take_out(pairings, {diverged.hold.collection_id})
    held = {diverged.hold.collection_id for diverged in found}
    for hold in cycle.store.holds():
        ended = hold.collection_id in looked_at and hold.collection_id not in held
        if hold.kind is HoldKind.DIVERGED and ended:
            cycle.store.clear_hold(hold.collection_id, HoldKind.DIVERGED)


def _take_side(cycle: CycleWork, pairings: Pairings, diverged: Diverged) -> None:
    """Take the primary's side: compare everything anew, and delete what only the replica has."""
    key = diverged.hold.collection_id
    cycle.taken.append((key, HoldKind.DIVERGED))
    cycle.approved_sets |= diverged.approved_sets
    if diverged.mirror is None:
        return
    cycle.store.distrust(key)
    for row, pairing in enumerate(pairings.pairings):
        if pairing.mirror.collection_id == key:
            walked = replace(pairing.mirror, replica_walked_at=None)
            pairings.pairings[row] = replace(pairing, mirror=walked)
