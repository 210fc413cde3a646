"""One measurement in a process of its own, so that CPU time and peak memory are its own.

`run_child` starts it; it reads what to do as JSON on standard input and answers in JSON.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psutil

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SECONDS = 4 * 3600


class FailedMeasurement(Exception):
    """The process that measured ended with an error."""


def run_child(what: str, **arguments: Any) -> dict[str, Any]:
    """Run `what` in a fresh process.

    Args:
        arguments: for `what`; `niceness` says how far the process stands back for others,
            and `enter` is called in it first.

    Returns:
        Its own results, and of the whole process: `start_seconds` (interpreter, imports, and
        what it prepared), `process_cpu_seconds`, `peak_rss_mb`.

    Raises:
        FailedMeasurement: it failed; the message ends with what it wrote.
    """
    niceness = str(arguments.pop("niceness", 0))
    enter = arguments.pop("enter", None)
    done = subprocess.run(
        ["nice", "-n", niceness, sys.executable, "-m", "bench.child"],
        input=orjson.dumps({"what": what, **arguments}),
        capture_output=True,
        cwd=ROOT,
        timeout=LONGEST_SECONDS,
        check=False,
        preexec_fn=enter,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-9000:]
        raise FailedMeasurement(f"{what} ended with {done.returncode}:\n{said}")
    result: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return result


def _prepare(what: str, arguments: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Import and make what the measurement needs; what is returned is measured."""
    # each contender's imports are part of its own start and memory, and of nobody else's
    match what:
        case "raw copy":
            from bench import raw, records

            shape = {key: arguments.pop(key) for key in ("dimension", "characters")}
            data = records.make_records(arguments.pop("records"), **shape)
            measure: Callable[..., dict[str, Any]] = partial(raw.ingest, collections=data)
        case "raw read":
            from bench import raw

            measure = raw.read_everything
        case "naive copy":
            from bench import naive

            measure = naive.copy
        case "ours" | "approved" | "verify" | "plan" | "status":
            from bench import ours

            measure = getattr(ours, {"ours": "cycles"}.get(what, what))
        case "fill ledger":
            from bench import ledger

            measure = ledger.fill
        case _:
            raise ValueError(f"unknown measurement {what!r}")
    return partial(measure, **arguments)


def peak_rss_mb() -> float:
    """The largest resident memory this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what our parent had when it started us
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Read the order, carry it out, print the result."""
    order = orjson.loads(sys.stdin.buffer.read())
    measure = _prepare(order.pop("what"), order)
    start_seconds = time.time() - psutil.Process().create_time()
    result = measure() | {
        "start_seconds": start_seconds,
        "process_cpu_seconds": time.process_time(),
        "peak_rss_mb": peak_rss_mb(),
    }
    sys.stdout.buffer.write(orjson.dumps(result) + b"\n")


if __name__ == "__main__":
    main()
