"""The command line in a process of its own, with a program that waits until it is stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from threading import Event

import click

from chromasync.cli import composition, main
from chromasync.ports import Progress
from chromasync.reports import CycleReport
from tests.cli.fakes import FakeProgram


class WaitingProgram(FakeProgram):
    """Says on stderr when it has begun, and goes on until a signal comes."""

    def sync(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """Wait for ever."""
        try:
            click.echo("began", err=True)
            Event().wait()
        finally:
            click.echo("put down", err=True)
        return self.cycle

    def run(self, stop: Event) -> int:
        """Wait for `stop`."""
        click.echo("began", err=True)
        stop.wait()
        click.echo("put down", err=True)
        return 0


composition.open_program = WaitingProgram().open
sys.argv[0] = "chromasync"
main()
