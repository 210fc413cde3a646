"""Names of log lines: constant, known, and each of them used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import chromasync
from chromasync.events import Event

SOURCE = Path(chromasync.__file__).parent
LOGS = SOURCE / "logs.py"
"""It makes the loggers."""
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != LOGS)
LEVELS = {"debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"}
KEEPER = SOURCE / "repeated.py"
"""It logs the event that it was given; who gives it one is looked at instead."""


def loggers_of(tree: ast.Module) -> set[str]:
    """The names under which a module has a logger."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "get_logger" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def events_of(tree: ast.Module) -> Iterator[ast.expr]:
    """The first argument of every call that logs, now or later."""
    loggers = loggers_of(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        logs = (
            isinstance(called, ast.Attribute)
            and called.attr in LEVELS
            and isinstance(called.value, ast.Name)
            and called.value.id in loggers
        )
        if logs or (isinstance(called, ast.Name) and called.id == "Repeated"):
            yield node.args[0]


def is_constant(expression: ast.expr) -> bool:
    return (
        isinstance(expression, ast.Attribute)
        and isinstance(expression.value, ast.Name)
        and expression.value.id == "Event"
        and expression.attr in Event.__members__
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_line_has_a_constant_name(path: Path) -> None:
    """No module logs a sentence of its own, a variable or a composed text as the event."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    others = [ast.unparse(e) for e in events_of(tree) if not is_constant(e)]
    assert others == (["self._event"] if path == KEEPER else [])
    assert text.count("get_logger(") == len(loggers_of(tree)), "each logger has a name"


def test_the_look_sees_what_is_wrong() -> None:
    """Texts, variables, other names and deferred events are found by the test above."""
    wrong = (
        "log = structlog.get_logger()\n"
        "log.warning('text', a=1)\nlog.info(f'{x}')\nlog.error(x)\nlog.debug(Event.NOBODY)\n"
        "Repeated(x, 'what')\nlog.info(Event.STARTED)\nother.info(x)\n"
    )
    found = list(events_of(ast.parse(wrong)))
    assert [is_constant(e) for e in found] == [False] * 5 + [True]


def test_every_name_is_used_and_explained() -> None:
    """No event is left over, each explanation is a sentence, and no two are the same."""
    used = " ".join(path.read_text(encoding="utf-8") for path in MODULES)
    assert [event.name for event in Event if f"Event.{event.name}" not in used] == []
    assert all(event.when[0].isupper() and event.when.endswith(".") for event in Event)
    assert len({event.when for event in Event}) == len(Event)
