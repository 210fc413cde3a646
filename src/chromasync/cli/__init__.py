"""The command line: what people type, see and get back as an exit code."""

from chromasync.cli import advise, dashboard, promote, steer  # their commands register themselves
from chromasync.cli.commands import main

__all__ = ["advise", "dashboard", "main", "promote", "steer"]
