"""The longer meanings of settings, for their reference."""

from __future__ import annotations

from chromasync.model import MARKS_DATABASE

TARGET = (
    "Where a collection goes on the replica; `docs/target.md` explains it. Collections that would "
    "meet there are errors; the one that is there already goes on, and the others are not written. "
    "If the part of the database has no `{database}`, SYNC_DATABASES must be set."
)
MAX_DELETE = (
    "Most deletes within a day, for each collection and for all of them together; more are held "
    "until approved. A percentage never means less than 100 records in all collections together; 0 "
    "and 0% mean never. A collection that disappears counts with all its records, and only in the "
    "second successful cycle without it. When at least half of the collections disappear at once, "
    "they are held, too."
)
KEEP_DROPPED = (
    "Time for which a replaced or dropped collection stays on the replica under another name, "
    "which ends in `.chromasync-kept-` and a part of its id; then it is dropped. When this is "
    "switched off, collections kept before stay."
)
PRIMARY_SHARE = (
    "Share of the primary's time that large reads may take, in all processes together, so that "
    "short queries of others are answered. Two seconds of it may be taken at once; then reads "
    "become small. If the primary has cores to spare, the share grows. 100% means no such limit."
)
MARK = (
    "Keep a mark on the replica: one small record for each mirrored database, in a database of "
    f"its own ({MARKS_DATABASE}). The mark shows that the replica or the state store was restored "
    "from an older copy, or that another store writes to the same replica."
)
