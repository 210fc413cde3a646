"""PostgreSQL that comes and goes: no process ends, no task is charged for it, all converges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import select

from chromasync.lab.postgres_server import LocalPostgres
from chromasync.store.schema import tasks
from tests.chaos.profile import NIGHTLY
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet
from tests.store.samples import look
from tests.support.stage import Stage, fill

RESTARTS = 20 if NIGHTLY else 3
PAUSE_SECONDS = 5.0 if NIGHTLY else 2.0
GONE_SECONDS = 60.0 if NIGHTLY else 8.0


@contextmanager
def restarted_again_and_again(postgres: LocalPostgres) -> Iterator[threading.Thread]:
    """Restarts the server every few seconds on a thread; at the end of the block it is up."""

    def restart() -> None:
        for _ in range(RESTARTS):
            time.sleep(PAUSE_SECONDS)
            postgres.restart()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def messages_of_failed(fleet: Fleet) -> list[tuple[str]]:
    return look(fleet.store, select(tasks.c.error_message).where(tasks.c.retry_count > 0))


@pytest.mark.long
def test_restarts_under_load_cost_time_and_nothing_else(
    stage: Stage, make_fleet: MakeFleet, own_postgres: LocalPostgres
) -> None:
    """Restarted every few seconds while three processes copy: they live on and converge."""
    docs = stage.create("docs", count=400)
    fleet = make_fleet(own_postgres.database("state"), SYNC_CHUNK_SIZE="10")
    stage.servers.replica_proxy.latency_seconds = 0.02
    with restarted_again_and_again(own_postgres) as restarting:
        members = [fleet.coordinator(), fleet.worker("one"), fleet.worker("two")]
        start = 400
        while restarting.is_alive():
            fill(docs, 20, start=start)
            docs.delete(ids=[f"r{start - 1}"])
            start += 20
            restarting.join(0.3)
    fleet.assert_converges()
    assert all(member.running for member in members), [member.log for member in members]
    stage.assert_identical()
    assert messages_of_failed(fleet) == [], "nobody was charged for the database's absence"


@pytest.mark.long
def test_a_database_that_is_gone_for_long(
    stage: Stage, make_fleet: MakeFleet, own_postgres: LocalPostgres
) -> None:
    """Longer than every lease: all wait, nothing is written meanwhile, and then they go on."""
    docs = stage.create("docs", count=300)
    fleet = make_fleet(
        own_postgres.database("state"), SYNC_LEASE_SECONDS="3", SYNC_LEAD_SECONDS="2"
    )
    members = [fleet.coordinator(), fleet.worker()]
    fleet.assert_converges()
    fill(docs, 200, start=300)
    fleet.until(lambda: fleet.store.task_counts(fleet.store.cycles(1)[0].id).live, "tasks")
    own_postgres.kill()
    time.sleep(GONE_SECONDS)  # the length of the absence is what is tested
    own_postgres.start()
    fleet.assert_converges()
    assert all(member.running for member in members), [member.log for member in members]


@pytest.mark.long
def test_few_connections_are_enough(stage: Stage, make_fleet: MakeFleet) -> None:
    """A coordinator and three workers together need two connections each, never more."""
    with LocalPostgres(durable=False, settings={"max_connections": 20}) as postgres:
        stage.create("docs", count=400)
        fleet = make_fleet(postgres.database("state"), SYNC_CHUNK_SIZE="10", SYNC_WORKERS="4")
        members = [fleet.coordinator(), *(fleet.worker(f"worker-{n}") for n in range(3))]
        fleet.until_active(*members)
        used = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chromasync'"
        most = 0
        with psycopg.connect(postgres.url, autocommit=True) as connection:

            def quiet() -> bool:
                nonlocal most
                found = connection.execute(used).fetchone()
                most = max(most, found[0] if found else 0)
                mirrors = fleet.store.mirrors()
                return bool(mirrors) and all(m.identical_as_of for m in mirrors)

            fleet.until(quiet, "a first copy")
        assert most <= 2 * (len(members) + 1), most
        fleet.assert_converges()
