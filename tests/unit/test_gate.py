"""The gate: tasks side by side, a lone one by itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.worker.gate import Gate

PATIENCE = 30.0


class Visitor:
    """A thread that passes the gate, says so, and leaves when told."""

    def __init__(self, gate: Gate, *, alone: bool = False) -> None:
        self.entered: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.leave = threading.Event()
        self._gate, self._alone = gate, alone
        self.thread = threading.Thread(target=self._visit)
        self.thread.start()

    def _visit(self) -> None:
        with self._gate.passing(alone=self._alone) as entered:
            self.entered.put(entered)
            if entered:
                self.leave.wait(PATIENCE)

    def inside(self) -> bool:
        """Wait until it is in, or was turned away."""
        return self.entered.get(timeout=PATIENCE)

    def go(self) -> None:
        """Let it leave, and wait for that."""
        self.leave.set()
        self.thread.join(PATIENCE)


@contextmanager
def visitors() -> Iterator[list[Visitor]]:
    """Visitors that all leave in the end."""
    found: list[Visitor] = []
    yield found
    for visitor in found:
        visitor.go()


def until_waiting(gate: Gate) -> None:
    """Until a lone visitor is inside or waits."""
    while gate.free:
        pass


def test_tasks_run_side_by_side() -> None:
    """Any number passes at the same time."""
    gate = Gate()
    with visitors() as found:
        found += [Visitor(gate) for _ in range(3)]
        assert all(visitor.inside() for visitor in found)
        assert gate.free


def test_a_lone_task_waits_for_the_others_and_keeps_new_ones_out() -> None:
    """It enters when the last one left; whoever came after it enters when it left."""
    gate = Gate()
    with visitors() as found:
        first = Visitor(gate)
        assert first.inside()
        lone = Visitor(gate, alone=True)
        until_waiting(gate)
        later = Visitor(gate)
        found += [first, lone, later]
        assert lone.entered.empty()
        assert later.entered.empty()
        first.go()
        assert lone.inside()
        assert later.entered.empty()
        assert not gate.free
        lone.go()
        assert later.inside()
        assert gate.free


def test_lone_tasks_take_turns() -> None:
    """Two of them are never inside together."""
    gate = Gate()
    with visitors() as found:
        one, other = Visitor(gate, alone=True), Visitor(gate, alone=True)
        found += [one, other]
        while one.entered.empty() and other.entered.empty():
            pass
        first, second = (one, other) if other.entered.empty() else (other, one)
        assert first.inside()
        assert second.entered.empty()
        first.go()
        assert second.inside()


def test_a_closed_gate_turns_everyone_away() -> None:
    """Those who wait as well as those who come later; whoever is inside may finish."""
    gate = Gate()
    with visitors() as found:
        inside = Visitor(gate)
        assert inside.inside()
        waiting = Visitor(gate, alone=True)
        until_waiting(gate)
        gate.close()
        late = Visitor(gate)
        found += [inside, waiting, late]
        assert (waiting.inside(), late.inside()) == (False, False)
        assert inside.thread.is_alive()
