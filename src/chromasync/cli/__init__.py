"""The command line: what people type, see and get back as an exit code."""

from chromasync.cli import (  # their commands register themselves
    advise,
    dashboard,
    promote,
    restore,
    steer,
)
from chromasync.cli.commands import main

__all__ = ["advise", "dashboard", "main", "promote", "restore", "steer"]
