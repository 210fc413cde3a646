"""What each command loads: a quick look at the status must not wait for the whole program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chromasync.store import open_store

pytestmark = pytest.mark.slower

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from chromasync.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps({"code": end.code, "loaded": sorted(sys.modules)}), file=sys.stderr)
"""
PAGE = {"starlette", "uvicorn", "jinja2", "prometheus_client", "chromasync.web"}
POSTGRESQL = {"psycopg", "sqlalchemy.dialects.postgresql", "chromasync.store.postgres"}
SERVERS = {"urllib3", "numpy", "simdjson", "stamina", "chromasync.chroma", "chromasync.reconcile"}
CYCLE = {"chromasync.role", "chromasync.cycle", "chromasync.worker", "chromasync.steering"}
ADVICE = {"chromasync.advice", "chromasync.sizing"}
LOGS = {"structlog", "pygments"}
DECISIONS = {"chromasync.failover", "chromasync.verify", "chromasync.doctor", "chromasync.alerts"}
NOT_HERE = PAGE | POSTGRESQL | {"apprise", "chromasync.lab"}
DESK = NOT_HERE | SERVERS | CYCLE | LOGS | DECISIONS | {"chromasync.dryrun", "psutil"}
PLAN = {"chromasync.dryrun", "chromasync.sizing", "chromasync.cycle"}
"""A plan may begin with the turn of the direction, which is a part of the cycle."""
SYNC = NOT_HERE | ADVICE | DECISIONS | {"chromasync.dryrun"}


def of_a_run(arguments: str, data: Path) -> tuple[int, set[str]]:
    """The exit code of a command line, and the modules that it had loaded at its end.

    Both URLs are the same, so a command that needs the servers has loaded its part and ends.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments.split()],
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT / "src"),
            "PRIMARY_URL": "http://one:8000",
            "REPLICA_URL": "http://one:8000",
            "SYNC_DATA_DIR": str(data),
        },
        cwd=data,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    report = json.loads(done.stderr.splitlines()[-1])
    return report["code"], set(report["loaded"])


@pytest.mark.parametrize(
    ("arguments", "code", "unneeded"),
    [
        ("status", 1, DESK | ADVICE),
        ("status --json", 1, DESK | ADVICE | {"rich"}),
        ("approve --all --json", 0, DESK | ADVICE | {"rich"}),
        ("pause --json", 0, DESK | ADVICE | {"rich"}),
        ("advise", 0, DESK),
        ("sync", 4, SYNC),
        ("plan", 4, (SYNC | CYCLE) - PLAN),
        ("run", 4, NOT_HERE | {"chromasync.dryrun", "chromasync.verify", "chromasync.doctor"}),
    ],
)
def test_a_command_loads_what_it_needs_and_nothing_else(
    tmp_path: Path, arguments: str, code: int, unneeded: set[str]
) -> None:
    """With a state file, no command loads the parts and libraries of the others."""
    open_store(tmp_path / "chromasync.db").close()
    ended, loaded = of_a_run(arguments, tmp_path)
    assert ended == code
    assert {"chromasync.app", "chromasync.store.sqlite"} <= loaded
    assert unneeded & loaded == set()
