"""The public names: what `import chromasync` gives, and what it leaves alone."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chromasync

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "chromasync"
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
PUBLIC = {
    "__version__", "errors", "testing",
    "sync", "plan", "verify", "status", "approve", "Service", "Place", "SettingKeywords",
    "Progress",
    "CycleReport", "CollectionReport", "OpCounts", "PlanReport", "PlannedCollection",
    "VerifyReport", "VerifiedCollection", "Finding", "StatusSnapshot", "Hold", "Outcome",
    "MirrorStatus",
    "ChromasyncError", "SettingsError", "ServerError", "ServerUnreachable", "StoreError",
    "GuardRefusal", "AnotherInstance", "AnotherStore", "ReplicaPromoted", "Paused", "Stopped",
}  # fmt: skip
"""Programs use these: add to them freely, remove and rename none."""
package: Any = chromasync
FUNCTIONS = ("approve", "plan", "status", "sync", "verify")
LOOK = """
import json, logging, signal, sys, threading
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
import chromasync
slow = {"numpy", "pydantic", "rich", "sqlalchemy", "urllib3", "structlog", "click", "chromadb"}
print(json.dumps({
    "modules": sorted(slow & set(sys.modules)),
    "own": sorted(name for name in sys.modules if name.startswith("chromasync.")),
    "handlers": handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
    "logging": [len(logging.root.handlers), logging.root.level],
    "threads": threading.active_count(),
}), file=sys.stderr)
"""
QUIETLY = """
import logging, signal, sys, threading
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
import dataclasses, structlog, chromasync
from chromasync.app import Application
connection = Application.connection
quick = {"wait_initial_seconds": 0.005, "wait_max_seconds": 0.02}
Application.connection = lambda app, side: dataclasses.replace(connection(app, side), **quick)
try:
    chromasync.sync("http://127.0.0.1:9", "http://127.0.0.1:8", store=sys.argv[1])
except chromasync.ServerUnreachable as error:
    assert error.side in ("primary", "replica")
assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
assert logging.root.handlers == [] and logging.root.level == logging.WARNING
assert [type(h).__name__ for h in logging.getLogger("chromasync").handlers] == ["NullHandler"]
assert not structlog.is_configured()
assert threading.active_count() == 1, threading.enumerate()
"""
SHADOWED = """
import chromasync
from chromasync.plan import match
from chromasync.verify import Verifier
import chromasync.status
before = [getattr(chromasync, name) for name in ("plan", "status", "verify")]
import chromasync.app
from chromasync import plan, status, verify
assert all(map(callable, before)) and before == [plan, status, verify]
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_public_names_are_these() -> None:
    """What the package offers is this list: in the package, for type checkers, and in `dir`."""
    assert sorted(package.__all__) == sorted(PUBLIC)
    assert set(dir(chromasync)) >= PUBLIC


def test_type_checkers_see_the_same_names() -> None:
    """The stub declares each public name, from the module that has it, and no other."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    declared = {"__version__": ""}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, "only such an import is an export"
                declared[alias.name] = node.module or ""
    assert declared.keys() == PUBLIC
    places = {name: place for place, names in package._NAMES.items() for name in names}
    modules = dict.fromkeys(package._MODULES, "chromasync")
    assert declared == {"__version__": "", **places, **modules}


def test_the_page_tells_each_name() -> None:
    """The table of the page has every public name, and no other."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_each_name_is_there_and_explained(name: str) -> None:
    """Every public name can be used, and has a docstring of its own."""
    value = getattr(chromasync, name)
    assert isinstance(value, ModuleType) == (name in {"errors", "testing"})
    if name != "Place":  # an alias of types has none
        assert (value.__doc__ or "").strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_tells_its_arguments_units_and_errors(name: str) -> None:
    """Each docstring says what comes back and what is raised."""
    text = getattr(chromasync, name).__doc__
    assert "Returns:" in text
    assert "Raises:" in text


def test_another_name_is_an_attribute_error() -> None:
    """What does not exist is told as Python tells it."""
    with pytest.raises(AttributeError, match="no attribute 'synchronise'"):
        _ = chromasync.synchronise  # type: ignore[attr-defined]


def test_the_import_is_fast_and_leaves_everything_alone() -> None:
    """It prints nothing, loads none of the engine, and touches no signal, log or thread."""
    done = python(LOOK)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert json.loads(done.stderr) == {
        "modules": [],
        "own": [],
        "handlers": True,
        "logging": [0, 30],
        "threads": 1,
    }


@pytest.mark.slower
def test_a_call_prints_nothing_and_leaves_everything_alone(tmp_path: Path) -> None:
    """Even its retries and its failure are not printed; no handler, log setup or thread is left."""
    done = python(QUIETLY, str(tmp_path / "state.db"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slower
def test_a_function_stays_when_a_module_of_its_name_is_loaded() -> None:
    """`plan`, `status` and `verify` are functions, before and after the engine is loaded."""
    done = python(SHADOWED)
    assert done.returncode == 0, done.stderr
