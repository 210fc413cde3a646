"""The metrics, in the formats of Prometheus: a collector over the snapshot and this process.

METRICS is the published list: names, labels and meanings. It is the text of `docs/metrics.md`, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from chromasync import __version__
from chromasync.model import BUCKETS, CycleStatus, MirrorStatus, WorkerBeat, WorkerStatus
from chromasync.reports import CollectionReport, StatusSnapshot
from chromasync.web.process import Process
from chromasync.web.snapshots import Latest, SnapshotCache

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
MEGABYTE = 1_000_000
IN_STORE = "of all processes, from the state store"
HERE = "of this process since it began; `chromasync dashboard` has none"
PLACE = ("tenant", "database", "collection")


@dataclass(frozen=True, slots=True)
class Published:
    """One published metric.

    Attributes:
        name: as it is scraped.
        kind: gauge, counter or histogram.
        meaning: one sentence.
        source: where the value comes from.
        labels: the names of its labels.
        optional: it is only there with SYNC_METRICS_COLLECTIONS.
    """

    name: str
    kind: str
    meaning: str
    source: str = IN_STORE
    labels: tuple[str, ...] = ()
    optional: bool = False


METRICS = (
    Published(
        "chromasync_lag_seconds",
        GAUGE,
        "Age of the oldest instant as of which a collection is identical, at the time of the "
        "scrape. It grows while everything is dead, paused or stuck; there is none before the "
        "first copy is finished.",
    ),
    Published(
        "chromasync_identical_as_of_timestamp_seconds",
        GAUGE,
        "Every record that the primary has not changed since then is the same on the replica.",
    ),
    Published(
        "chromasync_identical", GAUGE, "1 if `chromasync status` would end with 0, otherwise 0."
    ),
    Published(
        "chromasync_status_exit_code", GAUGE, "The exit code with which `chromasync status` ends."
    ),
    Published(
        "chromasync_last_clean_cycle_timestamp_seconds",
        GAUGE,
        "Start of the newest completed cycle.",
    ),
    Published(
        "chromasync_alert_lag_seconds",
        GAUGE,
        "SYNC_ALERT_LAG: the longest age of the newest completed cycle before it is reported.",
    ),
    Published("chromasync_paused", GAUGE, "1 while a pause is in force, otherwise 0."),
    Published("chromasync_store_up", GAUGE, "1 if the state store answered just now, otherwise 0."),
    Published("chromasync_collections", GAUGE, "Mirrored collections by state.", labels=("state",)),
    Published(
        "chromasync_records", GAUGE, "Records at the last count of each side.", labels=("side",)
    ),
    Published("chromasync_chunks", GAUGE, "Chunks of the ledger by state.", labels=("state",)),
    Published(
        "chromasync_oldest_read_timestamp_seconds",
        GAUGE,
        "The oldest instant at which a chunk was read whole.",
    ),
    Published("chromasync_tasks", GAUGE, "Tasks of the newest cycle.", labels=("status",)),
    Published("chromasync_holds", GAUGE, "Holds that wait for an approval or a decision."),
    Published("chromasync_held_records", GAUGE, "Records in these holds."),
    Published("chromasync_quarantined_records", GAUGE, "Records in quarantine."),
    Published("chromasync_cycle_running", GAUGE, "1 while a cycle is open, otherwise 0."),
    Published("chromasync_cycle_duration_seconds", GAUGE, "Time of the newest completed cycle."),
    Published(
        "chromasync_workers", GAUGE, "Processes that work on tasks, by state.", labels=("state",)
    ),
    Published("chromasync_worker_memory_bytes", GAUGE, "Memory of a process.", labels=("worker",)),
    Published(
        "chromasync_worker_memory_limit_bytes",
        GAUGE,
        "Its SYNC_MAX_MEMORY_MB; there is none without a limit.",
        labels=("worker",),
    ),
    Published(
        "chromasync_ops_applied_total",
        COUNTER,
        "Records written to the replica or deleted there, by operation, since the scraped process "
        "began. Every process counts all of them, so take the maximum over instances, not the sum.",
        labels=("op",),
    ),
    Published(
        "chromasync_records_read_total",
        COUNTER,
        "Records read from the primary, counted like the former.",
    ),
    Published(
        "chromasync_http_requests_total",
        COUNTER,
        "Requests to either server by outcome: `ok`, `busy` (429, 503), or the kind of failure.",
        HERE,
        ("side", "outcome"),
    ),
    Published("chromasync_chunk_duration_seconds", HISTOGRAM, "Time of one task.", HERE),
    Published(
        "chromasync_leases_lost_total",
        COUNTER,
        "Tasks that were put down because their lease was lost.",
        HERE,
    ),
    Published(
        "chromasync_snapshots_total",
        COUNTER,
        "Snapshots that the page and the metrics took of the state store.",
        "of this process since it began",
    ),
    Published(
        "chromasync_build_info",
        GAUGE,
        "Always 1; the labels name the version.",
        "of this process",
        ("version",),
    ),
    Published(
        "chromasync_collection_lag_seconds",
        GAUGE,
        "Age of the instant as of which the collection is identical.",
        labels=PLACE,
        optional=True,
    ),
    Published(
        "chromasync_collection_records",
        GAUGE,
        "Records of the collection at the last count of each side.",
        labels=(*PLACE, "side"),
        optional=True,
    ),
    Published(
        "chromasync_collection_held_records",
        GAUGE,
        "Records of the collection that are held.",
        labels=PLACE,
        optional=True,
    ),
    Published(
        "chromasync_collection_quarantined_records",
        GAUGE,
        "Records of the collection in quarantine.",
        labels=PLACE,
        optional=True,
    ),
)

Samples = Iterable[tuple[tuple[str, ...], float]]
ALIVE = {WorkerStatus.ACTIVE, WorkerStatus.DRAINING}


class Exposition:
    """Writes the metrics of one process.

    Args:
        snapshots: where snapshots come from.
        process: the process of the service; None in one that only shows.
        collections: whether each collection has time series of its own.
    """

    def __init__(
        self, snapshots: SnapshotCache, process: Process | None, *, collections: bool = False
    ) -> None:
        self._snapshots = snapshots
        self._process = process
        self._collections = collections
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def write(self, accept: str) -> tuple[bytes, str]:
        """The metrics now, in the format that the scraper asks for, and their content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All families; one without a value has no samples."""
        values = self._values()
        for published in METRICS:
            if self._collections or not published.optional:
                yield _family(published, values.get(published.name, ()))

    def _values(self) -> Mapping[str, Any]:
        latest = self._snapshots.look()
        values: dict[str, Any] = {
            "chromasync_store_up": one(latest.error is None),
            "chromasync_build_info": [((__version__,), 1)],
            "chromasync_snapshots_total": one(self._snapshots.looks),
            **_applied(self._snapshots),
        }
        if latest.snapshot is not None:
            values |= _deployment(latest, latest.snapshot) | _work(latest.snapshot)
            if self._collections:
                values |= _per_collection(latest, latest.snapshot)
        return values if self._process is None else values | _here(self._process)


def one(value: float | None) -> Samples:
    """The only sample of a metric without labels; none for an unknown value."""
    return [] if value is None else [((), float(value))]


def _instant(at: datetime | None) -> Samples:
    return one(None if at is None else at.timestamp())


def _family(published: Published, samples: Any) -> Metric:
    name, meaning = published.name, f"{published.meaning} ({published.source})"
    if published.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(name, meaning, labels=published.labels)
        for buckets, seconds in samples:
            histogram.add_metric((), buckets, seconds)
        return histogram
    kinds = {GAUGE: GaugeMetricFamily, COUNTER: CounterMetricFamily}
    family: GaugeMetricFamily | CounterMetricFamily = kinds[published.kind](
        name, meaning, labels=published.labels
    )
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _applied(snapshots: SnapshotCache) -> dict[str, Samples]:
    counts = snapshots.sums.counts
    ops = ("inserted", "updated", "replaced", "deleted")
    return {
        "chromasync_ops_applied_total": [((op,), float(getattr(counts, op))) for op in ops],
        "chromasync_records_read_total": one(counts.read),
    }


def _deployment(latest: Latest, seen: StatusSnapshot) -> dict[str, Samples]:
    """What is true of the whole replica."""
    as_of, clean_at = seen.identical_as_of, seen.clean_at
    return {
        "chromasync_lag_seconds": one(latest.lag_seconds),
        "chromasync_identical_as_of_timestamp_seconds": _instant(as_of),
        "chromasync_identical": one(seen.exit_code == 0),
        "chromasync_status_exit_code": one(seen.exit_code),
        "chromasync_last_clean_cycle_timestamp_seconds": _instant(clean_at),
        "chromasync_alert_lag_seconds": one(seen.alert_lag_seconds),
        "chromasync_paused": one(seen.is_paused),
        "chromasync_collections": _by_state(MirrorStatus, (c.status for c in seen.collections)),
        "chromasync_records": [
            (("primary",), float(sum(c.primary_count for c in seen.collections))),
            (("replica",), float(sum(c.replica_count for c in seen.collections))),
        ],
        "chromasync_chunks": [
            ((state,), float(sum(getattr(c.chunks, state) for c in seen.collections)))
            for state in ("clean", "unread", "recheck", "suspect")
        ],
        "chromasync_oldest_read_timestamp_seconds": one(_oldest_read(seen)),
        "chromasync_holds": one(len(seen.holds)),
        "chromasync_held_records": one(sum(hold.count for hold in seen.holds)),
        "chromasync_quarantined_records": one(len(seen.quarantined)),
    }


def _oldest_read(seen: StatusSnapshot) -> float | None:
    read = [c.chunks.oldest_read_at for c in seen.collections if c.chunks.oldest_read_at]
    return min(read).timestamp() if read else None


def _work(seen: StatusSnapshot) -> dict[str, Samples]:
    """The newest cycle, and the processes that work."""
    tasks = seen.tasks
    completed = [c for c in seen.cycles if c.status is CycleStatus.COMPLETED and c.finished_at]
    took = [(c.finished_at - c.started_at).total_seconds() for c in completed if c.finished_at]
    alive = [worker for worker in seen.workers if worker.status in ALIVE]
    limits = [w for w in alive if w.memory_limit_mb is not None]
    return {
        "chromasync_tasks": [
            ((status,), float(getattr(tasks, status)))
            for status in ("pending", "processing", "completed", "failed")
        ],
        "chromasync_cycle_running": one(
            any(c.status is CycleStatus.RUNNING for c in seen.cycles[:1])
        ),
        "chromasync_cycle_duration_seconds": one(max(0.0, took[0]) if took else None),
        "chromasync_workers": _by_state(WorkerStatus, (w.status for w in seen.workers)),
        "chromasync_worker_memory_bytes": _of_workers(alive, lambda w: w.memory_mb),
        "chromasync_worker_memory_limit_bytes": _of_workers(
            limits, lambda w: w.memory_limit_mb or 0.0
        ),
    }


def _of_workers(workers: list[WorkerBeat], megabytes: Callable[[WorkerBeat], float]) -> Samples:
    return [((worker.worker_id,), megabytes(worker) * MEGABYTE) for worker in workers]


def _by_state(states: Iterable[str], found: Iterable[str]) -> Samples:
    """One sample for each state, also for states that nothing is in."""
    counts = dict.fromkeys((str(state) for state in states), 0.0)
    for state in found:
        counts[str(state)] += 1
    return [((state,), count) for state, count in counts.items()]


def _per_collection(latest: Latest, seen: StatusSnapshot) -> dict[str, Samples]:
    def each(value: Callable[[CollectionReport], float]) -> Samples:
        return [(_place(c), float(value(c))) for c in seen.collections]

    now = latest.now
    known = [c for c in seen.collections if c.identical_as_of is not None and now is not None]
    return {
        "chromasync_collection_lag_seconds": [
            (_place(c), max(0.0, (now - c.identical_as_of).total_seconds()))
            for c in known
            if now is not None and c.identical_as_of is not None
        ],
        "chromasync_collection_records": [
            ((*_place(c), side), float(count))
            for c in seen.collections
            for side, count in (("primary", c.primary_count), ("replica", c.replica_count))
        ],
        "chromasync_collection_held_records": each(lambda c: c.held),
        "chromasync_collection_quarantined_records": each(lambda c: c.quarantined),
    }


def _place(collection: CollectionReport) -> tuple[str, str, str]:
    return collection.tenant, collection.database, collection.name


def _here(process: Process) -> dict[str, Any]:
    """What only the process itself knows."""
    vitals, outcomes = process.vitals(), process.outcomes()
    total, buckets = 0, []
    bounds = [*map(str, BUCKETS), "+Inf"]
    for bound, count in zip(bounds, vitals.durations.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return {
        "chromasync_http_requests_total": [
            ((side.value, outcome), float(count))
            for side, counts in outcomes.items()
            for outcome, count in sorted(counts.items())
        ],
        "chromasync_chunk_duration_seconds": [(buckets, vitals.durations.seconds)],
        "chromasync_leases_lost_total": one(vitals.leases_lost),
    }
