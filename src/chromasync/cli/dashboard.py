"""The command `dashboard`: the status page as a process of its own."""

from __future__ import annotations

import signal
import threading

from chromasync.cli import composition
from chromasync.cli.commands import program
from chromasync.cli.exits import ExitCode
from chromasync.cli.invoking import prepare
from chromasync.cli.options import GroupedHelp, Invocation, common_options, examples
from chromasync.cli.signals import first_signal


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync dashboard --set SYNC_HTTP_PORT=8080",
        "PORT=8080 SYNC_HTTP_HOST=0.0.0.0 SYNC_HTTP_TOKEN=… chromasync dashboard",
    ),
)
@common_options
def dashboard(invocation: Invocation) -> int:
    """Serve the status page, wherever the state store can be reached.

    It needs no server and no URL of one: it reads the state store only. The page shows whether the
    replica is identical, and whether any process is alive; so it is worth most in another place
    than the service. After Ctrl-C or SIGTERM it ends.
    """
    settings = prepare(invocation, service=True, servers=False)
    invocation.endless = True
    stop, interrupted = threading.Event(), threading.Event()

    def end(number: signal.Signals) -> None:
        if number == signal.SIGINT:
            interrupted.set()
        stop.set()

    with first_signal(end), composition.open_program(settings) as application:
        application.dashboard(stop)
    return ExitCode.INTERRUPTED if interrupted.is_set() else ExitCode.DONE
