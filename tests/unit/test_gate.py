"""The gate: tasks side by side, a lone one by itself, and nobody waits with a task in hand."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

from chromasync.model import Task
from chromasync.worker.gate import Gate


def task(number: int, retries: int = 0) -> Task:
    return Task(number, 1, "c", "docs", 7, False, retries, datetime(2030, 1, 1, tzinfo=UTC))


def is_free(gate: Gate) -> bool:
    return gate.free


class Visit:
    """One task at the gate; it stays inside, if it was let in, until it leaves."""

    def __init__(self, gate: Gate, number: int, retries: int = 0) -> None:
        self._stack = ExitStack()
        self.entered = self._stack.enter_context(gate.passing(task(number, retries)))

    def leave(self) -> None:
        self._stack.close()


def test_tasks_run_side_by_side() -> None:
    """Any number passes at the same time."""
    gate = Gate()
    inside = [Visit(gate, number) for number in range(3)]
    assert all(visit.entered for visit in inside)
    assert is_free(gate)


def test_a_retried_task_runs_alone() -> None:
    """While it runs, every other task is turned away at once, also a second retried one."""
    gate = Gate()
    lone = Visit(gate, 1, retries=1)
    assert lone.entered
    assert not is_free(gate)
    assert not Visit(gate, 2).entered
    assert not Visit(gate, 3, retries=1).entered
    lone.leave()
    assert is_free(gate)
    assert Visit(gate, 2).entered


def test_a_retried_task_that_is_turned_away_is_reserved_for() -> None:
    """No task is claimed beside others until the reserved one comes again and runs."""
    gate = Gate()
    first, second = Visit(gate, 2), Visit(gate, 3)
    assert not Visit(gate, 1, retries=1).entered
    first.leave()
    second.leave()
    assert not is_free(gate)
    lone = Visit(gate, 1, retries=1)
    assert lone.entered
    lone.leave()
    assert is_free(gate)


def test_an_older_task_does_not_end_the_reservation() -> None:
    """The older task runs, and the reserved one is next."""
    gate = Gate()
    inside = Visit(gate, 9)
    assert not Visit(gate, 5, retries=1).entered
    inside.leave()
    older = Visit(gate, 4)
    assert older.entered
    assert not is_free(gate)
    older.leave()
    assert not is_free(gate)
    assert Visit(gate, 5, retries=1).entered


def test_a_reservation_ends_when_another_process_has_the_task() -> None:
    """If a younger task comes, or none at all, another process has the reserved one."""
    gate = Gate()
    for number in (6, None):
        inside = Visit(gate, 9)
        assert not Visit(gate, 5, retries=1).entered
        inside.leave()
        if number is None:
            gate.found_none()
        else:
            assert Visit(gate, number).entered
        assert is_free(gate)


def test_a_claim_before_the_reservation_does_not_end_it() -> None:
    """A claim that was under way says nothing about the reserved task."""
    gate = Gate()
    inside = [Visit(gate, 8)]
    assert not Visit(gate, 5, retries=1).entered
    inside.append(Visit(gate, 9))
    assert inside[-1].entered
    gate.found_none()
    assert not is_free(gate)


def test_a_closed_gate_turns_every_task_away() -> None:
    """This holds for retried tasks, too; running tasks may finish."""
    gate = Gate()
    inside = Visit(gate, 1)
    gate.close()
    assert not Visit(gate, 2).entered
    assert not Visit(gate, 3, retries=1).entered
    inside.leave()
    assert not Visit(gate, 2).entered
