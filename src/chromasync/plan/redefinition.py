"""What changes of a collection itself, apart from its name, so that both sides define it alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chromasync.definition import configuration_change, creatable
from chromasync.model import Capabilities, Collection, Scalar
from chromasync.reconcile.diff import metadata_delta


@dataclass(frozen=True, slots=True)
class Redefinition:
    """What must be sent to the replica's server; false when nothing must.

    Attributes:
        metadata: the metadata as it shall be; None when it is so already.
        configuration: the settings that change.
    """

    metadata: Mapping[str, Scalar] | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.metadata is not None or bool(self.configuration)


def redefinition(primary: Collection, replica: Collection, server: Capabilities) -> Redefinition:
    """What changes of the replica's collection, on a server that can do so much."""
    wanted, _ = creatable(primary, server)
    delta = metadata_delta(dict(wanted.metadata), dict(replica.metadata))
    return Redefinition(
        None if delta is None else wanted.metadata, configuration_change(primary, replica, server)
    )
