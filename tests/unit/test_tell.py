"""What a service logs of its cycles, between two servers in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from chromasync import role
from chromasync.config import Settings, load_settings
from chromasync.cycle.tell import FIGURES
from chromasync.errors import (
    AnotherInstance,
    LeaseLost,
    RequestRefused,
    ServerUnreachable,
    StoreUnavailable,
)
from chromasync.events import Event
from chromasync.lab.fake import Call, FakeServer
from chromasync.lease import Lead
from chromasync.model import Side
from chromasync.quiet import Quiet
from chromasync.role import Participant
from chromasync.store import SqlStore
from tests.support.ledgers import joined, names, record

AWAY = "The primary is away."
pytestmark = pytest.mark.usefixtures("impatient")


class Service:
    """A single process between two servers in memory, that runs so many cycles and ends."""

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        self.store = store
        self.primary = FakeServer(Side.PRIMARY)
        self.replica = FakeServer(Side.REPLICA)
        self.home = self.primary.make()
        self.stop = threading.Event()
        parts = (self.primary, self.replica, store, settings)
        self.participant = Participant(*parts, self.stop)
        self.before: Callable[[int], None] = lambda number: None
        self.cycles = 0

    def fill(self, count: int, prefix: str = "r") -> None:
        self.primary.put(self.home, joined(*[record(i) for i in names(count, prefix)]))

    def serve(self, cycles: int) -> list[Any]:
        """The lines of so many cycles, without those about leading."""
        run, self.cycles = self.participant.run_cycle, 0

        def counted(*args: Any, **options: Any) -> Any:
            self.cycles += 1
            self.before(self.cycles)
            try:
                return run(*args, **options)
            finally:
                if self.cycles == cycles:
                    self.stop.set()

        self.participant.run_cycle = counted  # type: ignore[method-assign]
        with capture_logs() as lines:
            self.participant.serve(Quiet())
        return [line for line in lines if line["event"] not in {Event.STARTED, Event.LEADS}]


def settings_of(**more: str) -> Settings:
    urls = {"PRIMARY_URL": "http://p:1", "REPLICA_URL": "http://r:2"}
    fast = {"SYNC_INTERVAL": "0.01", "SYNC_CHUNK_SIZE": "10"}
    return load_settings(flags=urls | fast | more)


@pytest.fixture
def service(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(role, "RETRY_SECONDS", 0.001)
    service = Service(store, settings_of())
    with service.participant:
        yield service


def fails_at(server: FakeServer, name: str, error: Exception) -> None:
    def hook(call: Call) -> None:
        if call.name == name:
            raise error

    server.on_request(hook)


def away(server: FakeServer, name: str = "list_databases") -> None:
    fails_at(server, name, ServerUnreachable(AWAY, side=server.side))


def test_one_line_has_all_figures(service: Service) -> None:
    """A cycle that copied something is one line, with what it did and how fresh the replica is."""
    service.fill(25)
    (line,) = service.serve(1)
    assert line["event"] is Event.CYCLE_CLOSED
    assert set(line) == {"event", "log_level", "outcome", *FIGURES}
    assert {k: line[k] for k in ("log_level", "outcome", "cycle")} == {
        "log_level": "info",
        "outcome": "identical",
        "cycle": 1,
    }
    numbers = ("read", "inserted", "updated", "replaced", "deleted", "held", "quarantined")
    assert {k: line[k] for k in numbers} == dict.fromkeys(numbers, 0) | {"read": 25, "inserted": 25}
    assert (line["collections"], line["tasks"]) == (1, 3)
    assert datetime.fromisoformat(line["identical_as_of"]).tzinfo is not None
    assert 0 <= line["lag_seconds"] < 60
    assert 0 < line["seconds"] < 60


def test_a_cycle_that_fails_is_one_line_with_its_reason(service: Service) -> None:
    """A failure is said once, by the line of its cycle, with what is known of the replica."""
    service.fill(25)
    service.before = lambda number: away(service.primary) if number == 2 else None
    first, failed = service.serve(2)
    assert (failed["event"], failed["log_level"]) == (Event.CYCLE_CLOSED, "warning")
    assert (failed["outcome"], failed["cycle"], failed["inserted"]) == ("failed", 2, 0)
    assert failed["reason"].startswith(AWAY)
    assert failed["retry_in_seconds"] == 0.001
    assert failed["identical_as_of"] == first["identical_as_of"]
    assert failed["lag_seconds"] > first["lag_seconds"]


def test_a_failure_in_the_middle_of_the_work_is_told_once(service: Service) -> None:
    """The workers of the process that plans leave it to the cycle to say what both met."""
    service.fill(25)
    away(service.replica, "add")
    lines = [line for line in service.serve(1) if AWAY in str(line)]
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [line["event"] for line in told] == [Event.CYCLE_CLOSED]
    assert len(lines) > len(told), "the workers met it, too"


def test_failures_for_one_reason_are_told_once_and_so_is_the_recovery(service: Service) -> None:
    """Cycles that fail for the same reason within moments are counted; the end is told."""
    service.fill(5)
    away(service.primary)
    service.before = lambda number: service.primary.on_request(None) if number == 5 else None
    lines = service.serve(5)
    assert [line["event"] for line in lines] == [
        Event.CYCLE_CLOSED,
        Event.CYCLE_CLOSED,
        Event.RECOVERED,
    ]
    assert [line.get("outcome") for line in lines[:2]] == ["failed", "identical"]
    assert (lines[2]["what"], lines[2]["after"]) == ("cycles", 4)


def test_a_cycle_that_cannot_begin_has_no_figures(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the store away there is a line with the reason, and nothing is made up."""

    def gone(*_: object) -> None:
        raise StoreUnavailable("The state store is away.")

    monkeypatch.setattr(service.participant, "_take_lead", gone)
    (line,) = service.serve(1)
    assert (line["event"], line["outcome"]) == (Event.CYCLE_CLOSED, "failed")
    assert line["reason"].startswith("The state store is away.")
    assert {line[name] for name in FIGURES} == {None}


def test_a_cycle_whose_end_cannot_be_recorded_says_what_is_known(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store that ends a cycle, and cannot take its end, is told of once."""
    service.fill(5)

    def gone(*_: object, **__: object) -> None:
        raise StoreUnavailable("The state store is away.")

    monkeypatch.setattr(SqlStore, "close_cycle", gone)
    (line,) = service.serve(1)
    assert line["reason"].startswith("The state store is away.")
    assert (line["cycle"], line["read"], line["identical_as_of"]) == (1, None, None)


def test_a_stop_is_no_failure(service: Service) -> None:
    """A cycle that ends early because the process shall end has its figures and that reason."""
    service.fill(25)

    def stop(call: Call) -> None:
        service.stop.set()

    service.primary.on_request(stop)
    (line,) = service.serve(2)
    assert (line["event"], line["log_level"]) == (Event.CYCLE_CLOSED, "info")
    assert (line["outcome"], line["cycle"]) == ("stopped", 1)
    assert line["reason"].startswith("The cycle ended early")


def test_what_ends_the_process_is_left_to_its_last_words(service: Service) -> None:
    """The line has the figures; the reason is the error that the process ends with."""
    fails_at(service.primary, "list_databases", RequestRefused("No.", side=Side.PRIMARY))
    with capture_logs() as lines, pytest.raises(RequestRefused):
        service.participant.serve(Quiet())
    caught = [line for line in lines if line["event"] == Event.CYCLE_CLOSED]
    assert [(line["outcome"], line["cycle"], line["ends"]) for line in caught] == [
        ("failed", 1, True)
    ]
    assert "No." not in str(lines)


def test_a_lost_lead_is_told_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle that lost it says so; neither leading nor recording its end says it again."""
    service.fill(5)

    def lost(self: Lead) -> float:
        raise LeaseLost("This process no longer leads.")

    monkeypatch.setattr(Lead, "check", lost)
    lines = service.serve(1)
    assert [line["event"] for line in lines if "no longer leads" in str(line)] == [
        Event.CYCLE_CLOSED
    ]


def test_warnings_are_fields_and_not_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cycle warns of is one constant event with the text beside it, told once in a while."""
    monkeypatch.setattr(
        "chromasync.cycle.coordinator.note_clean",
        lambda cycle: cycle.warnings.append("Mind the gap."),
    )
    lines = service.serve(3)
    warned = [line for line in lines if line["event"] == Event.CYCLE_WARNS]
    assert [line["text"] for line in warned] == ["Mind the gap."]
    assert sum(line["event"] == Event.CYCLE_CLOSED for line in lines) == 3


def test_collections_that_fail_are_told_by_reason(service: Service) -> None:
    """What the collections of a cycle failed for stands beside its line, each reason once."""
    service.primary.make("more")
    service.fill(5)
    fails_at(service.primary, "list_ids", RequestRefused("Refused.", side=Side.PRIMARY))
    lines = service.serve(1)
    assert [line["event"] for line in lines] == [Event.CYCLE_CLOSED, Event.COLLECTION_FAILED]
    assert lines[0]["outcome"] == "failed"
    assert "Refused." in lines[1]["reason"]


def test_a_missing_database_is_told_by_the_line_of_the_cycle(store: SqlStore) -> None:
    """Its collections are not named one by one beside it: the reason is the same."""
    service = Service(store, settings_of(SYNC_DATABASES="default_database,hr"))
    service.primary.make("people", place=("default_tenant", "hr"))
    service.fill(5)
    service.before = lambda number: (
        service.primary.lose_database("default_tenant", "hr") if number == 2 else None
    )
    with service.participant:
        first, second = service.serve(2)
    assert (first["outcome"], second["outcome"]) == ("identical", "failed")
    assert "no database 'hr'" in second["reason"]


def test_whoever_waits_for_the_lead_says_so_once(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it asks, one line tells that it waits."""
    stop = threading.Event()
    participant = Participant(
        FakeServer(Side.PRIMARY),
        FakeServer(Side.REPLICA),
        store,
        settings_of(),
        stop,
        patience_seconds=60,
    )
    asked = []

    def taken() -> None:
        asked.append(1)
        if len(asked) == 4:
            stop.set()
        raise AnotherInstance("Another leads.")

    monkeypatch.setattr(participant, "_take_lead", taken)
    monkeypatch.setattr(participant, "_stand_by", lambda: None)
    with capture_logs() as lines, pytest.raises(Exception, match="asked to stop"):
        participant.__enter__()
    assert [line["event"] for line in lines] == [Event.WAITS_FOR_LEAD]
