"""What a service's environment makes of the program, as the program itself reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from chromasync.config import Settings, load_settings

OURS = ("SYNC_", "PRIMARY_", "REPLICA_", "DATABASE_URL", "PORT")


def settings_in(environment: Mapping[str, str], *, servers: bool = True) -> Settings:
    """The settings of a process with this environment and nothing of ours from outside.

    Raises:
        SettingsError: the program would refuse to start.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(OURS):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        return load_settings(servers_required=servers)
