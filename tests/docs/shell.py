"""A shell that lives through a page, as the terminal of someone who follows it does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.docs.pages import INTERRUPT, Step, first_unsaid

MARK = "--- that was it:"
INTERRUPTED = 130
END_THEM = "import os, sys; os.read(0, 1); os.killpg(int(sys.argv[1]), 9)"
"""Kills a process group when the pipe on standard input closes, as it does when we are killed."""


class Shell:
    """A POSIX shell in a process group of its own; what it exports, it keeps.

    Args:
        process: the shell, reading its commands from a pipe.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def follow(self, step: Step) -> None:
        """Run one command of a page; it must say what the page shows and end as it should."""
        said, code = self.run(step.command, step.output if step.interrupted else None)
        assert first_unsaid(step.output, said) is None, explain(step, said)
        allowed = {INTERRUPTED} if step.interrupted else {0}
        assert step.failing or code in allowed, f"exit code {code}: {explain(step, said)}"

    def run(self, command: str, until: Sequence[str] | None = None) -> tuple[list[str], int]:
        """What a command says, and its exit code; Ctrl-C once it has said `until`."""
        assert self._process.stdin is not None
        # in braces, so that an export stays; the code of one command is there for the next
        wrapped = f"{{ {command}\n}} </dev/null; code=$?\n"
        self._process.stdin.write(f"{wrapped}echo '{MARK}' $code; (exit $code)\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._lines():
            if line.startswith(MARK):
                return said, int(line.removeprefix(MARK))
            said.append(line)
            if until is not None and first_unsaid(until, said) is None:
                until = None
                self._interrupt()
        raise AssertionError(f"the shell ended at {command!r}: {said}")

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip("\n")

    def _interrupt(self) -> None:
        """What the terminal does at Ctrl-C, to the command alone."""
        for child in psutil.Process(self._process.pid).children():
            child.send_signal(signal.SIGINT)


def explain(step: Step, said: Sequence[str]) -> str:
    """What the page shows, and what there was."""
    end = f"\n{INTERRUPT}" if step.interrupted else ""
    missing = first_unsaid(step.output, said)
    page = "\n".join(step.output)
    return f"$ {step.command}\n{page}{end}\n--- said\n" + "\n".join(said) + f"\n--- not: {missing}"


@contextmanager
def shell(folder: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    """A shell in `folder`; it and all that it started are killed at the end, or with us."""
    process = subprocess.Popen(
        ["/bin/sh"],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    watch = [sys.executable, "-I", "-S", "-c", END_THEM, str(process.pid)]
    with process, subprocess.Popen(watch, stdin=subprocess.PIPE) as watcher:
        try:
            yield Shell(process)
        finally:
            watcher.kill()  # first, or else it might hit whoever gets the number next
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
