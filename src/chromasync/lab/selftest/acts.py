"""The acts: a first copy in many chunks by several processes, then changes of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chromasync.definition import creatable
from chromasync.errors import SettingsError
from chromasync.guard import refuse_same_server
from chromasync.lab.selftest.compare import count_right, find
from chromasync.lab.selftest.crew import COORDINATOR, WORKER, Crew, worker_name
from chromasync.lab.selftest.lifetime import mark
from chromasync.lab.selftest.material import ADDED, SPACES, Truth, first_count
from chromasync.lab.selftest.report import NOT_SHOWN, SelftestReport
from chromasync.lab.selftest.stage import Say, Stage
from chromasync.lab.selftest.watch import Watch, active_workers, closed_cycles, seconds_of
from chromasync.model import Collection, Records, TaskCounts
from chromasync.plan.identity import refuse_wrong_sides

WORKERS = 2
ROUNDS = 3
"""Number of repetitions with more records when one process alone did everything."""


@dataclass(slots=True)
class Subject:
    """One collection of the self-test on the primary, and its expected content."""

    collection: Collection
    truth: Truth


@dataclass(slots=True)
class Changes:
    """The ids of the records that the second act changed in one collection."""

    subject: Subject
    added: list[str]
    updated: list[str]
    deleted: list[str]


class Play:
    """Both acts.

    Args:
        running: a coordinator that the self-test did not start leads on the store.
        chunk_size: records of a chunk, as that coordinator or ours cuts them.
        lasts_seconds: longest time of the self-test and its clean-up.
    """

    def __init__(
        self,
        stage: Stage,
        crew: Crew,
        watch: Watch,
        say: Say,
        report: SelftestReport,
        *,
        running: bool,
        chunk_size: int,
        lasts_seconds: float,
    ) -> None:
        self._stage = stage
        self._crew = crew
        self._watch = watch
        self._say = say
        self._report = report
        self._running = running
        self._chunk_size = chunk_size
        self._lasts_seconds = lasts_seconds
        self.subjects: list[Subject] = []

    def copy(self) -> None:
        """Two new collections are copied by several processes, chunk by chunk."""
        store = self._stage.store
        began_at = store.now()
        for space in SPACES:
            self.subjects.append(self._create(Truth(space)))
        self._add_everywhere(first_count(self._chunk_size))
        filled_at = store.now()
        self._start()
        self._watch.until_identical(self._ids, filled_at)
        for _ in range(ROUNDS):
            if len(self._completed_by()) > 1:
                break
            self._say("One process did all tasks, so more records are added.")
            self._add_everywhere(first_count(self._chunk_size) // 2)
            self._watch.until_identical(self._ids, store.now())
        self._tell(began_at)

    def change(self) -> None:
        """Records are added, updated and deleted on the primary, and each change arrives."""
        changes = [self._change(subject) for subject in self.subjects]
        self._watch.until_identical(self._ids, self._stage.store.now())
        report = self._report
        for each in changes:
            report.added += len(each.added)
            report.updated += len(each.updated)
            report.deleted += len(each.deleted)
        added = sum(self._arrived(each.subject, each.added) for each in changes)
        updated = sum(self._arrived(each.subject, each.updated) for each in changes)
        left = sum(self._left(each.subject, each.deleted) for each in changes)
        self._say(f"Adds: {added} of {report.added} new records are on the replica, as given.")
        self._say(
            f"Updates: {updated} of {report.updated} records have their new embedding, their new "
            "document, or one metadata key less."
        )
        self._say(f"Deletes: {left} of {report.deleted} deleted records are left on the replica.")

    # ---- the primary ------------------------------------------------------------------------

    @property
    def _ids(self) -> list[str]:
        return [subject.collection.id for subject in self.subjects]

    def _create(self, truth: Truth) -> Subject:
        stage = self._stage
        name = f"{stage.prefix}{truth.space}"
        wanted = Collection(
            id="",
            name=name,
            tenant=stage.tenant,
            database=stage.database,
            metadata=mark(self._lasts_seconds),
            configuration={"hnsw": {"space": truth.space.value}},
        )
        definition, _ = creatable(wanted, stage.application.capabilities())
        collection = stage.application.create_collection(definition)
        self._report.collections.append(name)
        replica = stage.replica.list_collections(stage.tenant, stage.database)
        refuse_same_server([collection.id], [c.id for c in replica])
        return Subject(collection, truth)

    def _add_everywhere(self, count: int) -> None:
        for subject in self.subjects:
            self._put(subject.collection, subject.truth.add(count))

    def _put(self, collection: Collection, records: Records) -> None:
        for batch in self._stage.application.batches(records):
            self._stage.application.upsert(collection, batch)

    def _change(self, subject: Subject) -> Changes:
        application, truth = self._stage.application, subject.truth
        deleted = truth.delete()
        application.delete(subject.collection, deleted)
        updates = truth.update()
        for batch in application.change_batches(updates):
            application.update(subject.collection, batch)
        added = truth.add(ADDED)
        self._put(subject.collection, added)
        return Changes(subject, added.ids, [change.id for change in updates], deleted)

    # ---- the replica ------------------------------------------------------------------------

    def _arrived(self, subject: Subject, ids: Sequence[str]) -> int:
        """Number of these records that the replica holds as written to the primary."""
        there = self._on_replica(subject)
        return 0 if there is None else count_right(self._stage.replica, there, subject.truth, ids)

    def _left(self, subject: Subject, ids: Sequence[str]) -> int:
        """Number of these records that the replica still holds."""
        there = self._on_replica(subject)
        return 0 if there is None else len(self._stage.replica.read(there, ids, embeddings=False))

    def _on_replica(self, subject: Subject) -> Collection | None:
        place = self._stage.tenant, self._stage.database
        return find(self._stage.replica, subject.collection.name, place)

    # ---- the processes ----------------------------------------------------------------------

    def _start(self) -> None:
        """Start the workers first, so that they are ready for the coordinator's first tasks."""
        members = [self._crew.start("worker", **WORKER) for _ in range(WORKERS)]
        self._watch.until_active([member.pid for member in members])
        if not self._running:
            self._crew.start("coordinator", **COORDINATOR)

    def _tell(self, began_at: datetime) -> None:
        """Print the stored figures of the cycles since then, of the workers, and of the tasks."""
        report, store = self._report, self._stage.store
        for cycle in closed_cycles(store, began_at):
            created = store.task_counts(cycle.id).total
            if created:
                seconds = seconds_of(cycle)
                report.cycle_seconds += seconds
                self._say(f"📋 Coordinator cycle: {created} tasks created in {seconds:.1f}s")
        workers = active_workers(store)
        names = [f"{worker_name(beat.pid)} ({beat.status.value})" for beat in workers]
        report.workers = [worker_name(beat.pid) for beat in workers]
        self._say(f"👷 Found {len(names)} workers: {', '.join(names)}")
        counts = self._count(began_at)
        report.tasks_created = counts.total
        report.tasks_completed, report.tasks_pending = counts.completed, counts.live
        self._say(f"📊 Tasks: {counts.completed} completed, {counts.live} pending")
        self._tell_chunks()
        self._tell_spread(counts)

    def _tell_chunks(self) -> None:
        """Print the number of chunks; one chunk for each collection would prove nothing."""
        chunks = [len(self._stage.store.chunk_heads(key)) for key in self._ids]
        self._report.chunks = sum(chunks)
        records = sum(len(subject.truth.records) for subject in self.subjects)
        self._say(
            f"Chunks: {records} records of {len(chunks)} collections were copied in "
            f"{sum(chunks)} chunks."
        )
        if min(chunks) < 2:
            self._report.note("A collection was not cut into several chunks.", NOT_SHOWN)

    def _tell_spread(self, counts: TaskCounts) -> None:
        """Print the number of tasks for each process; one process alone would prove nothing."""
        done = self._completed_by()
        self._report.completed_by = done
        shares = ", ".join(f"{worker} did {number}" for worker, number in done.items())
        self._say(f"Claims: {shares or 'none'}.")
        if len(done) < 2:
            self._report.note(
                f"One process did all {counts.completed} tasks, {ROUNDS} additions of records "
                "included: that several share the work was not shown.",
                NOT_SHOWN,
            )

    def _completed_by(self) -> dict[str, int]:
        """Number of completed tasks of the test's collections for each worker."""
        store = self._stage.store
        names = {beat.worker_id: worker_name(beat.pid) for beat in store.workers()}
        done = store.tasks_by_worker(self._ids)
        return {names.get(worker, worker): count for worker, count in done.items()}

    def _count(self, began_at: datetime) -> TaskCounts:
        """The tasks of the cycles since then."""
        store = self._stage.store
        counts = [store.task_counts(cycle.id) for cycle in closed_cycles(store, began_at)]
        return TaskCounts(
            pending=sum(each.pending for each in counts),
            processing=sum(each.processing for each in counts),
            completed=sum(each.completed for each in counts),
            failed=sum(each.failed for each in counts),
        )


def check_servers(stage: Stage) -> None:
    """Refuse servers that are swapped or the same, before anything is written to them.

    Raises:
        GuardRefusal: see `guard`.
    """
    place = stage.tenant, stage.database
    primary, replica = (
        [c.id for c in server.list_collections(*place)] for server in (stage.primary, stage.replica)
    )
    met = stage.store.sides_of([*primary, *replica])
    refuse_wrong_sides(primary, (), met, stage.settings.primary_url)
    refuse_same_server(primary, replica)
    refuse_wrong_sides((), replica, met, stage.settings.primary_url)


def check_names(stage: Stage) -> None:
    """Refuse settings with which a running coordinator would ignore the test's collections.

    Raises:
        SettingsError: SYNC_INCLUDE or SYNC_EXCLUDE leave them out.
    """
    if not all(stage.settings.scope.wants(f"{stage.prefix}{space}") for space in SPACES):
        raise SettingsError(
            f"SYNC_INCLUDE or SYNC_EXCLUDE leave out collections named {stage.prefix}…, and a "
            "coordinator with these settings leads already.",
            untouched="Nothing was written.",
            hint="Change them to allow these names, or run the self-test without a coordinator.",
        )
