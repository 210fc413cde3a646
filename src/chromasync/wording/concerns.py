"""Sentences about what needs attention: states of collections, holds, and quarantined records."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from chromasync.model import PRIMARY_EMPTY, Hold, HoldKind, MirrorStatus, Quarantined
from chromasync.wording.words import full_name, plain, plural

STATES = {
    MirrorStatus.NEW: "not copied yet",
    MirrorStatus.SYNCING: "being copied",
    MirrorStatus.IDENTICAL: "identical",
    MirrorStatus.LIMITED: "identical as far as possible",
    MirrorStatus.HELD: "held, needs approval",
    MirrorStatus.ERROR: "failed in the last cycle",
    MirrorStatus.VANISHED: "gone from the primary",
    MirrorStatus.DIVERGED: "diverged, needs a decision",
    MirrorStatus.UNANSWERING: "has its records but does not answer queries",
    MirrorStatus.DOUBTFUL: "primary has changed its identity, needs a decision",
}
HELD_WORDS = {
    HoldKind.DELETES: "deleting {records} that the primary no longer has",
    HoldKind.SURPLUS: "deleting {records} that the primary never had",
    HoldKind.DROP: "dropping the whole collection with {records}",
    HoldKind.REPLACE: "replacing the collection, which loses {records}",
    HoldKind.SURPLUS_COLLECTION: "dropping a collection that the primary never had, {records}",
    HoldKind.DIVERGED: "everything, as others changed {records} on the replica",
    HoldKind.ADOPTION: "writing to a collection that the replica already had, with {records}",
    HoldKind.OLDER_PRIMARY: "updates and deletes, as {records} are missing on the primary",
    HoldKind.OTHER_PRIMARY: "everything, with {records} that are on the replica",
}


WAYS_OUT = {
    HoldKind.DIVERGED: (
        "Nothing is written there until someone decides. To keep the primary's data, which deletes "
        "and overwrites the replica's own changes: {command}"
    ),
    HoldKind.ADOPTION: (
        "Nothing is written there until someone decides. To take the collection over, which "
        "overwrites its records: {command}, or chromasync sync --adopt"
    ),
    HoldKind.OLDER_PRIMARY: (
        "If the primary was restored from an older copy, restore a newer one, or copy the missing "
        "records back from the replica. If they were deleted on purpose: {command}"
    ),
    HoldKind.OTHER_PRIMARY: (
        "If PRIMARY_URL leads to the wrong server, correct it. To accept this server: {command}"
    ),
}
"""The next step for holds that need a decision which side is right."""

ONLY_COPY = (
    "The replica may be the only copy left. Keep it as it is, and restore the primary from its "
    "backup, or let applications use the replica. If everything was deleted on purpose: {command}"
)
"""The next step when the primary is empty."""

SHOWN_DIGEST = 8
"""Number of characters of a digest that are shown; they are enough to select a hold."""


def hold_sentences(hold: Hold, holds: Sequence[Hold]) -> tuple[str, str]:
    """What is held and why, and the next step."""
    name, what = hold_name(hold), held_words(hold)
    if hold.approved_digest is not None:
        return f"Approved for {name}: {what}.", "The next cycle carries it out."
    return (
        f"Held for {name}: {what}, because {plain(hold.reason)}.",
        way_out(hold, holds),
    )


def held_words(hold: Hold) -> str:
    """The change that is held, with its count."""
    return HELD_WORDS[hold.kind].format(records=plural(hold.count, "record"))


def way_out(hold: Hold, holds: Sequence[Hold]) -> str:
    """The next step; `holds` are all of them, for names that several collections have."""
    if hold.unconfirmed:
        return (
            "It needs no approval: the next successful cycle does it if nothing has changed. "
            f"SYNC_EXCLUDE={plain(hold.collection_name)} keeps the collection."
        )
    same = {other.full_name for other in holds if other.collection_name == hold.collection_name}
    name = hold_name(hold) if len(same) == 1 else plain(hold.full_name)
    command = f"chromasync approve {shlex.quote(f'{name}@{hold.set_digest[:SHOWN_DIGEST]}')}"
    usual = WAYS_OUT.get(hold.kind, "To let it through once: {command}")
    words = ONLY_COPY if hold.reason == PRIMARY_EMPTY else usual
    return words.format(command=command)


def hold_name(hold: Hold) -> str:
    """The name of the collection, or of what is held instead of one."""
    if not hold.tenant:
        return plain(hold.collection_name)
    return full_name(hold.tenant, hold.database, hold.collection_name)


def quarantine_sentence(record: Quarantined, name: str) -> str:
    """A quarantined record of the collection `name`, and the reason."""
    state = "not on the replica" if record.absent else "older on the replica"
    record_id, reason = plain(record.record_id), as_sentence(plain(record.reason))
    return f'Set aside in {name}: record "{record_id}", {state}. {reason}'


def as_sentence(words: str) -> str:
    """Words as a sentence, with a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:].removesuffix('.')}."
