"""`chromasync demo`: two real Chroma servers, real text, live changes, and the proof at the end."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console

from chromasync.lab.chroma_server import LocalServerError

__all__ = ["run_demo"]


def run_demo(console: Console, *, keep: bool) -> int:
    """Play the demo and return its exit code: 0 if everything was seen to be right, 1 if not.

    Args:
        console: where the story is printed.
        keep: leave both servers running, with a cycle every few seconds, until Ctrl-C.

    Raises:
        LocalServerError: the `chromadb` package is not installed, or a server does not start.
        ChromasyncError: anything else that stopped the program.
    """
    if find_spec("chromadb") is None:
        raise LocalServerError(
            "The demo needs real Chroma servers, and the `chromadb` package is not installed.",
            untouched="Nothing was started.",
            hint="Install it with `pip install 'chromasync[demo]'`.",
        )
    # the rest needs what a plain installation does not have, and time to import
    from chromasync.lab.demo.story import tell  # noqa: PLC0415

    return tell(console, keep=keep)
