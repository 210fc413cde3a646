"""Mirrors that only stand for a replica collection which a newer one will replace; pure."""

from __future__ import annotations

from dataclasses import replace

from chromasync.model import Collection, Mirror

SUPERSEDED = "superseded:"
"""Prefix of the key of a superseded mirror: the replica collection's id and the mirror's follow."""


def is_superseded(mirror: Mirror) -> bool:
    """Whether a mirror only stands for a replica collection that will be replaced."""
    return mirror.collection_id.startswith(SUPERSEDED)


def superseded(mirror: Mirror, replica: Collection) -> Mirror:
    """The mirror for the former collection `replica` after the real one has begun a new one."""
    key = f"{SUPERSEDED}{replica.id}/{mirror.collection_id}"
    return replace(mirror.with_primary(collection_id=key), replica_id=replica.id)


def successor_of(mirror: Mirror) -> str:
    """The id of the primary collection of a superseded mirror."""
    return mirror.collection_id.partition("/")[2]
