"""The queue against a model of itself: random claims, crashes, rescues and late completions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from chromasync.model import CycleStatus, DeletionKind, OpCounts, Task, WorkerStatus
from chromasync.store import SqlStore, retry_charges
from chromasync.store.schema import deletions, tasks, workers
from chromasync.store.schema_ledger import applied_digests, chunk_ids, chunks, replica_chunks
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    chunk_of,
    digests,
    end_backoffs,
    expire,
    look,
    result_for,
    task_for,
    trusted,
)
from tests.support.ledgers import with_digests

MAX_RETRIES = 2
CHUNKS = 4
PARTS = (replica_chunks, chunk_ids, applied_digests)
"""The tables beside `chunks` that have a row for each chunk."""

EXAMPLES = {"sqlite": 40, "postgresql": 20}


@dataclass
class Expected:
    """What the model knows of a task."""

    chunk_id: int
    status: str = "pending"
    fence: int = 0
    retries: int = 0
    holder: str | None = None
    waits: bool = False
    left_by_failing: bool = False
    called_back: bool = False  # or given up when it was planned
    given_up_in: int = 0


class QueueMachine(RuleBasedStateMachine):
    """Workers that claim, finish, fail, freeze and come back, on one small set of chunks."""

    store: SqlStore

    @initialize()
    def begin(self) -> None:
        for table in (tasks, workers, chunks, *PARTS, deletions):
            arrange(self.store, delete(table))
        self.cycle = self.store.open_cycle()
        ids = self.store.save_chunks([chunk_of([f"{n}"]) for n in range(CHUNKS)])
        self.model: dict[int, Expected] = {}
        self.marks = dict.fromkeys(ids, 0)
        self.suspects: set[int] = set()
        self.in_hand: set[int] = set()
        self.found: set[tuple[int, DeletionKind]] = set()
        self.home, self.elsewhere = COLLECTION, OTHER
        self.attempts: list[Task] = []
        self.numbers: dict[int, tuple[str, Task]] = {}
        self.next_mark = self.next_number = 0
        self.dead: set[str] = set()
        self.closed: set[int] = set()

    @rule(n=st.integers(0, CHUNKS - 1))
    def plan(self, n: int) -> None:
        chunk_id = sorted(self.marks)[n]
        former = [t for t in self.known() if t.chunk_id == chunk_id]
        live = any(t.status in {"pending", "processing"} for t in former)
        new = not live and not any(t.given_up_in == self.cycle.id for t in former)
        task = task_for(chunk_id, self.home)
        assert self.store.add_tasks(self.cycle.id, [task]) == int(new)
        if new:
            ((task_id,),) = look(
                self.store, select(tasks.c.id).order_by(tasks.c.id.desc()).limit(1)
            )
            self.model[task_id] = planned = Expected(chunk_id)
            self.take_over(planned, former)

    def known(self) -> list[Expected]:
        return [t for t in self.model.values() if t.status != "taken out"]

    def take_over(self, planned: Expected, former: list[Expected]) -> None:
        if not former or not former[-1].called_back or not former[-1].retries:
            return
        if former[-1].given_up_in in self.closed:
            return
        planned.retries, planned.fence = former[-1].retries, 1
        planned.waits = planned.retries <= MAX_RETRIES
        if not planned.waits:
            planned.status, planned.given_up_in = "failed", self.cycle.id
            planned.called_back = True

    @rule(worker=st.sampled_from("xyz"), dead=st.booleans())
    def live_or_die(self, worker: str, dead: bool) -> None:
        status = WorkerStatus.DEAD if dead else WorkerStatus.ACTIVE
        self.store.beat(beat_of(worker, status=status))
        self.dead = self.dead | {worker} if dead else self.dead - {worker}

    @rule(close=st.booleans())
    def next_cycle(self, close: bool) -> None:
        self.cancel()
        if close:
            self.store.close_cycle(self.cycle.id, CycleStatus.FAILED, 0)
            self.closed.add(self.cycle.id)
        self.cycle = self.store.open_cycle()

    @rule(worker=st.sampled_from("xyz"))
    def claim(self, worker: str) -> None:
        ready = [i for i, t in self.model.items() if t.status == "pending" and not t.waits]
        self.next_number += 1
        task = self.store.claim_task(worker, 60, self.next_number)
        if task is None:
            assert ready == []
            return
        assert task.id == min(ready)
        known = self.model[task.id]
        assert task.fence > known.fence
        assert task.retry_count == known.retries
        known.status, known.holder, known.fence = "processing", worker, task.fence
        self.attempts.append(task)
        self.numbers[self.next_number] = (worker, task)

    @rule(data=st.data())
    def claim_again(self, data: Any) -> None:
        if not self.numbers:
            return
        number = data.draw(st.sampled_from(sorted(self.numbers)))
        worker, task = self.numbers[number]
        known = self.model[task.id]
        if task.fence == known.fence and known.status == "processing":
            assert self.store.claim_task(worker, 60, number) == task

    def attempt(self, data: Any) -> tuple[Task, Expected] | None:
        if not self.attempts:
            return None
        task = data.draw(st.sampled_from(self.attempts))
        return task, self.model[task.id]

    @rule(data=st.data(), gone=st.booleans(), foreign=st.booleans())
    def complete(self, data: Any, gone: bool, foreign: bool) -> None:
        if (chosen := self.attempt(data)) is None:
            return
        task, known = chosen
        self.next_mark = self.next_mark % 250 + 1
        result = result_for(
            self.store, task, mark=self.next_mark, gone=["x"] if gone else [], counts=OpCounts(1)
        )
        result = trusted(replace(result, foreign=["y"] if foreign else []))
        seen = with_digests(result.chunk, replica=digests(1, self.next_mark))
        result = replace(result, chunk=seen)
        since = self.distrusted_at(known.chunk_id)
        assert self.store.complete_task(task, result) == (task.fence == known.fence)
        if task.fence == known.fence and known.status == "processing":
            known.status = "completed"
            self.marks[known.chunk_id] = self.next_mark
            self.found = {(i, kind) for i, kind in self.found if i != known.chunk_id}
            self.found |= {(known.chunk_id, DeletionKind.GONE)} if gone else set()
            self.found |= {(known.chunk_id, DeletionKind.FOREIGN)} if foreign else set()
            if since is None or since < task.claimed_at:
                self.suspects.discard(known.chunk_id)
                self.in_hand.discard(known.chunk_id)

    def distrusted_at(self, chunk_id: int) -> datetime | None:
        its = replica_chunks.c.chunk_id == chunk_id
        ((instant,),) = look(self.store, select(replica_chunks.c.distrusted_at).where(its))
        assert instant is None or isinstance(instant, datetime)
        return instant

    @rule(n=st.integers(0, CHUNKS - 1), in_hand=st.booleans())
    def distrust(self, n: int, in_hand: bool) -> None:
        chunk_id = sorted(self.marks)[n]
        self.store.distrust(self.home, [chunk_id], in_hand=in_hand)
        self.doubt(chunk_id, in_hand=in_hand)

    def doubt(self, chunk_id: int, *, in_hand: bool) -> None:
        self.suspects.add(chunk_id)
        if in_hand:
            self.in_hand.add(chunk_id)

    @rule()
    def move(self) -> None:
        self.store.move_ledger(self.home, self.elsewhere)
        self.home, self.elsewhere = self.elsewhere, self.home
        for chunk_id in self.marks:
            self.doubt(chunk_id, in_hand=False)
        for known in self.model.values():
            if known.status in {"pending", "processing"}:
                self.doubt(known.chunk_id, in_hand=known.status == "processing")
                known.status, known.fence = "taken out", -1

    @rule(data=st.data())
    def fail(self, data: Any) -> None:
        if (chosen := self.attempt(data)) is None:
            return
        task, known = chosen
        held = task.fence == known.fence and known.status == "processing"
        repeat = task.fence + 1 == known.fence and known.left_by_failing
        assert self.store.fail_task(task, "no") == (held or repeat)
        if held:
            self.charge(known)
            known.left_by_failing = True

    @rule(data=st.data())
    def release(self, data: Any) -> None:
        if (chosen := self.attempt(data)) is None:
            return
        task, known = chosen
        self.store.release_tasks([task])
        if task.fence == known.fence and known.status == "processing":
            known.status, known.fence = "pending", known.fence + 1
            known.left_by_failing = False

    @rule(data=st.data())
    def renew(self, data: Any) -> None:
        if (chosen := self.attempt(data)) is None:
            return
        task, known = chosen
        held = task.fence == known.fence and known.status == "processing"
        assert self.store.renew_tasks([task], 60) == ({task.id} if held else set())

    @rule(worker=st.sampled_from("xyz"))
    def freeze(self, worker: str) -> None:
        frozen = [
            task_id
            for task_id, known in self.model.items()
            if known.status == "processing" and known.holder == worker
        ]
        latest = {task.id: task for task in self.attempts}
        expire(self.store, *(latest[task_id] for task_id in frozen))
        assert self.store.rescue_tasks() == len(frozen)
        for task_id in frozen:
            known = self.model[task_id]
            self.doubt(known.chunk_id, in_hand=True)
            self.charge(known)
            # its lease was a wait already: only the second time does it wait on top
            known.waits = known.waits and known.retries > 1

    @rule()
    def cancel(self) -> None:
        live = [t for t in self.model.values() if t.status in {"pending", "processing"}]
        assert self.store.cancel_tasks("stop") == len(live)
        for known in live:
            if known.status == "processing":
                self.doubt(known.chunk_id, in_hand=True)
                known.retries += known.holder in self.dead
            known.status, known.fence = "failed", known.fence + 1
            known.left_by_failing, known.called_back = False, True

    @rule()
    def wait(self) -> None:
        end_backoffs(self.store)
        for known in self.model.values():
            known.waits = False

    def charge(self, known: Expected) -> None:
        known.retries, known.fence = known.retries + 1, known.fence + 1
        known.status = "failed" if known.retries > MAX_RETRIES else "pending"
        known.waits = known.status == "pending"
        known.left_by_failing = False

    @invariant()
    def queue_is_as_expected(self) -> None:
        rows = look(
            self.store, select(tasks.c.id, tasks.c.task_status, tasks.c.fence, tasks.c.retry_count)
        )
        found = {task_id: tuple(rest) for task_id, *rest in rows}
        expected = {
            i: (t.status, t.fence, t.retries)
            for i, t in self.model.items()
            if t.status != "taken out"
        }
        assert found == expected

    @invariant()
    def ledger_holds_only_accepted_results(self) -> None:
        expected = {i: digests(1, mark) for i, mark in self.marks.items()}
        known = applied_digests.c
        for column in (known.payload_digests, known.replica_digests):
            assert dict(look(self.store, select(known.chunk_id, column))) == expected
        for table in PARTS:
            assert {i for (i,) in look(self.store, select(table.c.chunk_id))} == set(self.marks)
        rows = look(self.store, select(deletions.c.chunk_id, deletions.c.kind))
        assert set(rows) == self.found
        assert len(rows) == len(self.found)

    @invariant()
    def chunks_are_suspect_until_a_later_attempt_completes(self) -> None:
        heads = self.store.chunk_heads(self.home)
        assert {head.id for head in heads} == set(self.marks)
        assert {head.id for head in heads if head.replica.suspect} == self.suspects
        assert {head.id for head in heads if head.replica.in_hand} == self.in_hand


@pytest.mark.longest
@pytest.mark.long
def test_the_queue_keeps_its_word_whatever_happens(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interleaving of attempts lets a former holder write, or loses or doubles a task."""
    monkeypatch.setattr(retry_charges, "MAX_RETRIES", MAX_RETRIES)
    monkeypatch.setattr(retry_charges, "CHARGED_CYCLES", 100)
    machine = type("Machine", (QueueMachine,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES[store.backend.engine.dialect.name],
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
