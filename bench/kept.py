"""What every bench tells while it runs, and where it keeps its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

Say = Callable[[str], None]


def timed_lines() -> Say:
    """Prints lines on standard error, each with the seconds since this call."""
    console, started = Console(stderr=True), time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:7.1f} s  {text}", highlight=False)

    return say


def keep(folder: Path, name: str, results: Any) -> None:
    """Write a result as JSON; the folder is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
