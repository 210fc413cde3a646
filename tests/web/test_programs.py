"""What programs read: JSON, metrics, health and history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chromasync.errors import StoreUnavailable
from chromasync.model import Durations, Duty, Side, Vitals
from chromasync.web.history import SPANS, Charts, draw
from chromasync.web.metrics import METRICS
from chromasync.web.snapshots import SnapshotCache
from tests.cli.fakes import NOON, empty_snapshot
from tests.web import scenes
from tests.web.conftest import Ask, FakeProcess, World

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text())
SCENES = ("quiet", "copying", "held", "dead", "paused", "crowded", "hostile")
PUBLISHED = {
    "chromasync_lag_seconds": set(),
    "chromasync_identical_as_of_timestamp_seconds": set(),
    "chromasync_records": {"side"},
    "chromasync_chunks": {"state"},
    "chromasync_tasks": {"status"},
    "chromasync_ops_applied_total": {"op"},
    "chromasync_http_requests_total": {"side", "outcome"},
    "chromasync_chunk_duration_seconds": set(),
    "chromasync_worker_memory_bytes": {"worker"},
    "chromasync_holds": set(),
    "chromasync_leases_lost_total": set(),
    "chromasync_build_info": {"version"},
}
"""Names that dashboards and alerts of users depend on, with their labels."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """The values of a scrape by name and labels, as Prometheus' own parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """One value."""
    return found[name, frozenset(labels.items())]


def scrape(ask: Ask, **options: Any) -> Samples:
    """What a scraper gets."""
    return samples(ask(token=None, **options).get("/metrics").text)


# ---- JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
def test_the_status_keeps_to_its_schema(ask: Ask, world: World, scene: str) -> None:
    """Real documents validate, and have no field that the schema does not describe."""
    world.snapshot = getattr(scenes, scene)()
    document = ask(token=None).get("/api/v1/status").json()
    jsonschema.validate(document, closed(SCHEMA))
    assert document["schema_version"] == 1
    assert document["exit_code"] == world.snapshot.exit_code


def closed(schema: Any) -> Any:
    """The schema with every object closed, so that an undocumented field is an error."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: closed(inner) for key, inner in schema.items()}
    return kept | {"additionalProperties": False} if "properties" in schema else kept


def test_a_document_with_another_shape_does_not_validate(ask: Ask) -> None:
    """The schema is not one that takes everything."""
    document = ask(token=None).get("/api/v1/status").json()
    wrongs: list[dict[str, object]] = [{"lag_seconds": "long"}, {"collections": [{}]}]
    for wrong in [*wrongs, {"schema_version": 2}]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | wrong, SCHEMA)


def test_a_store_that_is_away_is_said_to_programs(ask: Ask, world: World) -> None:
    """The answer is 503 with the reason, never an old status under a new time."""
    world.error = StoreUnavailable("The state store does not answer.")
    answer = ask(token=None).get("/api/v1/status")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error == {"kind": "StoreUnavailable", "what": "The state store does not answer."}


# ---- metrics ---------------------------------------------------------------------------------


def test_every_published_metric_is_there_with_its_labels(ask: Ask, world: World) -> None:
    """Nothing that a dashboard asks for is missing, and all that is there is documented."""
    world.process = FakeProcess(
        Vitals(Duty.LEADING, durations=Durations().with_one(0.3).with_one(400), leases_lost=2),
        {Side.PRIMARY: {"ok": 7, "busy": 1}, Side.REPLICA: {"ok": 9}},
    )
    found = scrape(ask)
    names = {name for name, _ in found}
    for name, labels in PUBLISHED.items():
        bare = name + ("_count" if name.endswith("duration_seconds") else "")
        given = {frozenset(dict(pairs)) for at, pairs in found if at == bare}
        assert given == {frozenset(labels)}, name
    known = {metric.name for metric in METRICS if not metric.optional}
    parts = {n + suffix for n in known for suffix in ("", "_bucket", "_count", "_sum")}
    assert names <= parts
    assert value(found, "chromasync_http_requests_total", side="primary", outcome="busy") == 1
    assert value(found, "chromasync_chunk_duration_seconds_bucket", le="0.5") == 1
    assert value(found, "chromasync_chunk_duration_seconds_count") == 2
    assert value(found, "chromasync_chunk_duration_seconds_sum") == pytest.approx(400.3)
    assert value(found, "chromasync_leases_lost_total") == 2


def test_values_are_those_of_the_snapshot(ask: Ask, world: World) -> None:
    """States that nothing is in are 0 rather than absent, so that alerts can rely on them."""
    world.snapshot = scenes.held()
    found = scrape(ask)
    seen = world.snapshot
    assert value(found, "chromasync_lag_seconds") == pytest.approx(seen.lag_seconds, abs=5)
    assert value(found, "chromasync_identical") == 0
    assert value(found, "chromasync_status_exit_code") == 4
    assert value(found, "chromasync_collections", state="held") == 1
    assert value(found, "chromasync_collections", state="diverged") == 0
    assert value(found, "chromasync_held_records") == 4210
    assert value(found, "chromasync_quarantined_records") == 2
    assert value(found, "chromasync_workers", state="active") == 3
    assert value(found, "chromasync_paused") == 0
    memory = value(found, "chromasync_worker_memory_bytes", worker=scenes.WORKERS[0].worker_id)
    assert memory == 171e6


def test_before_the_first_copy_there_is_no_lag(ask: Ask, world: World) -> None:
    """An unknown value has no sample: 0 would look like freshness."""
    for snapshot in (scenes.copying(), empty_snapshot()):
        world.snapshot = snapshot
        found = scrape(ask)
        assert ("chromasync_lag_seconds", frozenset()) not in found
        assert value(found, "chromasync_identical") == 0


def test_the_lag_is_told_while_the_store_is_away(ask: Ask, world: World) -> None:
    """The last known lag goes on growing, and a metric of its own says why."""
    client = ask(token=None)
    before = samples(client.get("/metrics").text)
    world.error = StoreUnavailable("It is away.")
    after = samples(client.get("/metrics").text)
    assert value(before, "chromasync_store_up") == 1
    assert value(after, "chromasync_store_up") == 0
    lag = "chromasync_lag_seconds"
    assert value(after, lag) > value(before, lag)


def test_collections_are_labels_only_where_that_is_asked_for(ask: Ask, world: World) -> None:
    """The number of time series does not grow with the number of collections by default."""
    few = len(scrape(ask))
    world.snapshot = scenes.crowded()
    assert len(scrape(ask)) == few
    found = scrape(ask, collections=True)
    assert len(found) == few + 1500 * 5
    place = {"tenant": "default_tenant", "database": "default_database", "collection": "faq"}
    assert value(found, "chromasync_collection_records", **place, side="replica") > 0


def test_hostile_names_stay_labels(ask: Ask, world: World) -> None:
    """Quotes, backslashes and line ends come back as they were, and no line is forged."""
    world.snapshot = scenes.hostile()
    found = scrape(ask, collections=True)
    names = {dict(labels).get("collection") for name, labels in found if "collection_lag" in name}
    assert names == set(scenes.HOSTILE)


def test_a_scraper_may_ask_for_the_newer_format(ask: Ask) -> None:
    """OpenMetrics is negotiated by the header."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = ask(token=None).get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# ---- health ----------------------------------------------------------------------------------


def test_a_dashboard_is_alive_and_ready_as_long_as_its_store_answers(
    ask: Ask, world: World
) -> None:
    """It has no duty of its own."""
    client = ask()
    assert client.get("/healthz").text == client.get("/readyz").text == "ok"
    world.error = StoreUnavailable("It is away at postgresql://secret-host/db.")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.text) == (503, "the state store cannot be read")
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("duty", "ready"),
    [
        (Duty.STARTING, False),
        (Duty.WAITING, True),
        (Duty.LEADING, True),
        (Duty.WORKING, True),
        (Duty.ENDING, False),
    ],
)
def test_readiness_follows_the_duty(ask: Ask, world: World, duty: Duty, ready: bool) -> None:
    """Whoever leads, works or stands by is ready; lag and holds are no matter of health."""
    world.process = FakeProcess(Vitals(duty))
    world.snapshot = scenes.held()
    answer = ask().get("/readyz")
    assert (answer.status_code, answer.text) == ((200, "ok") if ready else (503, duty.value))


def test_a_process_without_its_heartbeat_is_not_alive(ask: Ask, world: World) -> None:
    """A thread that ended while the process goes on is named, and asks for a restart."""
    world.process = FakeProcess(Vitals(Duty.LEADING, ("heartbeat",)))
    client = ask()
    for path in ("/healthz", "/readyz"):
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (503, "ended threads: heartbeat")


# ---- history ---------------------------------------------------------------------------------


@pytest.mark.parametrize("span", SPANS)
def test_the_lines_of_a_chart_are_of_equal_length_and_in_order(ask: Ask, span: str) -> None:
    """Each series has as many values as instants, inside the span, the oldest first."""
    lines = ask(token=None).get("/api/v1/history", params={"span": span}).json()
    pairs = {"lag_at": ["lag_seconds"], "cycle_at": ["cycle_seconds"]}
    pairs["rate_at"] = ["read_per_second", "written_per_second"]
    step = SPANS[span][1]
    for at, series in pairs.items():
        instants = lines[at]
        assert instants == sorted(instants)
        assert len(instants) > 5
        assert lines["from_at"] - step <= instants[0] <= instants[-1] <= lines["to_at"]
        assert {len(lines[name]) for name in series} == {len(instants)}


def test_throughput_adds_processes_up_and_spreads_long_rows() -> None:
    """Two processes count together, and a row of three minutes is no peak of one."""
    start = NOON.replace(minute=10)
    rows = [
        scenes.Row(start.replace(minute=m), "ab"[m % 2], 60.0, 600, 60, None) for m in (11, 11, 12)
    ]
    rows.append(scenes.Row(start.replace(minute=18), "a", 180.0, 1800, 0, None))
    lines = draw("hour", rows, NOON.timestamp() + 1200, 3600, 60)
    assert lines.read_per_second[:2] == (20.0, 10.0)
    assert max(lines.read_per_second[2:]) == 10.0
    assert sum(lines.read_per_second) * 60 == pytest.approx(3600)


def test_all_tabs_share_the_lines(world: World) -> None:
    """The measurements are read once in a while, however many ask."""
    asked: list[float] = []

    def measure(seconds: float) -> list[scenes.Row]:
        asked.append(seconds)
        return []

    charts = Charts(measure, seconds=3600)
    now = SnapshotCache(world.take).look().now
    assert now is not None
    for _ in range(10):
        assert charts.lines("hour", now).lag_at == ()
        charts.lines("week", now)
    assert asked == [3600, 7 * 86400]


def test_an_unknown_span_is_refused(ask: Ask) -> None:
    """The answer names those that exist."""
    answer = ask(token=None).get("/api/v1/history", params={"span": "year"})
    assert (answer.status_code, answer.json()) == (422, {"allowed": list(SPANS)})
