"""Finds the changes that make the definitions of both sides equal, apart from the name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chromasync.definition import configuration_change, creatable
from chromasync.model import Capabilities, Collection, Scalar
from chromasync.reconcile.diff import metadata_delta


@dataclass(frozen=True, slots=True)
class Redefinition:
    """The changes to send to the replica's server; false if there are none.

    Attributes:
        metadata: the new metadata; None if it does not change.
        configuration: the settings that change.
    """

    metadata: Mapping[str, Scalar] | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.metadata is not None or bool(self.configuration)


def redefinition(primary: Collection, replica: Collection, server: Capabilities) -> Redefinition:
    """The changes of the replica's collection, on a server with these capabilities."""
    wanted, _ = creatable(primary, server)
    delta = metadata_delta(dict(wanted.metadata), dict(replica.metadata))
    return Redefinition(
        None if delta is None else wanted.metadata, configuration_change(primary, replica, server)
    )
