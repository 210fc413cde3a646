"""What an approval names, what needs none, and what people are told of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync.config.settings import DATABASE_FILE
from chromasync.errors import ChromasyncError, SettingsError
from chromasync.model import HoldKind
from chromasync.plan.removals import UNCONFIRMED
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from tests.support.stage import TENANT, Servers, Stage, drop, fill


@pytest.fixture
def twin(stage: Stage, servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A second database on the same servers, mirrored together with that of `stage`."""
    twin = Stage(servers, tmp_path)
    for each in (stage, twin):
        each.overrides["SYNC_DATABASES"] = f"{stage.database},{twin.database}"
        each.overrides["SYNC_MAX_DELETE"] = "2"
    yield twin
    twin.close()


def hold_deletes(*stages: Stage) -> None:
    """In each database, a collection of one name of which six of eight records are gone."""
    made = [stage.create("passages", count=8) for stage in stages]
    stages[0].sync()
    for passages in made:
        passages.delete(ids=[f"r{n}" for n in range(6)])
    assert [hold.count for hold in stages[0].sync().holds] == [6] * len(stages)


def test_one_name_in_two_databases_approves_neither(stage: Stage, twin: Stage) -> None:
    """The bare name is refused with the names to choose from; the full one approves one alone."""
    hold_deletes(stage, twin)
    ours, other = (f"{TENANT}/{each.database}/passages" for each in (stage, twin))
    refused = stage.command("approve", "passages")
    assert refused.returncode == 2
    assert ours in refused.stderr
    assert other in refused.stderr
    assert "Nothing was approved." in refused.stderr
    assert [hold.approved_count for hold in stage.status().holds] == [None, None]
    status = stage.command("status").stdout
    assert f"Held for {other}: deleting 6 records" in status
    digest = next(h.set_digest for h in stage.status().holds if h.full_name == other)[:8]
    assert f"To let it through once: chromasync approve {other}@{digest}\n" in status
    approved = stage.command("approve", f"{other}@{digest}")
    assert approved.returncode == 0
    assert f"Approved for {other}: deleting 6 records" in approved.stdout
    report = stage.sync()
    assert [hold.full_name for hold in report.holds] == [ours]
    assert report.counts.deleted == 6
    twin.assert_identical()
    assert stage.on_replica("passages").count() == 8


def test_a_collection_of_unknown_origin_is_told_apart_by_its_place(
    stage: Stage, twin: Stage
) -> None:
    """Beside one of the same name its full name is what is shown; its id names it as well."""
    hold_deletes(stage)
    foreign = twin.replica.create_collection("passages", embedding_function=None)
    fill(foreign, 1)
    stage.sync()
    with pytest.raises(SettingsError, match="in 2 collections") as caught:
        stage.approve("passages")
    full_name = f"{TENANT}/{twin.database}/passages"
    assert full_name in caught.value.hint
    (held,) = (h for h in stage.status().holds if h.full_name == full_name)
    shown = f"chromasync approve {full_name}@{held.set_digest[:8]}\n"
    assert shown in stage.command("status").stdout
    (approved,) = stage.approve(str(foreign.id))
    assert approved.kind is HoldKind.SURPLUS_COLLECTION
    assert [hold.kind for hold in stage.sync().holds] == [HoldKind.DELETES]


# ---- in the wrong place ----------------------------------------------------------------------


@pytest.mark.parametrize("names", [["--all"], ["docs"]])
def test_where_there_is_no_state_nothing_is_approved(
    stage: Stage, names: list[str], tmp_path: Path
) -> None:
    """An approval in the wrong folder fails, says where it looked, and leaves nothing behind."""
    empty = tmp_path / "elsewhere"
    ended = stage.command("approve", *names, SYNC_DATA_DIR=str(empty))
    assert ended.returncode == 2
    assert f"There is no state store at sqlite:///{empty / DATABASE_FILE}." in ended.stderr
    assert "Nothing was approved. Go to the service's folder, or set SYNC_DATA_DIR" in ended.stderr
    assert not empty.exists()


def test_a_misspelt_name_is_told_from_an_ambiguous_one(stage: Stage, twin: Stage) -> None:
    """Another database's full name is that of no collection here."""
    hold_deletes(stage)
    with pytest.raises(ChromasyncError, match="Nothing is held"):
        stage.approve(f"{TENANT}/{twin.database}/passages")
    (approved,) = stage.approve("passages", f"{TENANT}/{stage.database}/passages")
    assert approved.count == 6


# ---- what passes by itself -------------------------------------------------------------------


@pytest.mark.long
def test_a_vanished_collection_says_that_the_next_cycle_drops_it(stage: Stage) -> None:
    """It asks for no approval that it does not wait for, and names what keeps the collection."""
    for name in ("stays", "more", "goes"):
        stage.create(name, count=5)
    stage.sync()
    drop(stage.primary, "goes")
    ended = stage.command("sync")
    assert ended.returncode == 4
    assert f"because {UNCONFIRMED[HoldKind.DROP]}." in ended.stdout
    assert "SYNC_EXCLUDE=goes keeps the collection." in ended.stdout
    assert "chromasync approve" not in ended.stdout
    assert stage.sync().counts.deleted == 5


def test_excluding_a_vanished_collection_keeps_it(stage: Stage) -> None:
    """As the output says: no cycle drops it, nothing is held, and nobody calls it different."""
    for name in ("stays", "more", "goes"):
        stage.create(name, count=5)
    stage.sync()
    drop(stage.primary, "goes")
    assert stage.sync().outcome is Outcome.HELD
    stage.overrides["SYNC_EXCLUDE"] = "goes"
    for _ in range(3):
        report = stage.sync()
        assert (report.outcome, report.holds) == (Outcome.IDENTICAL, ())
    assert stage.on_replica("goes").count() == 5
    assert stage.verify().exit_code == 0


def test_collections_that_wait_for_an_approval_say_so(stage: Stage) -> None:
    """Where nothing is left on the primary no cycle confirms it: the way to approve is shown."""
    stage.create(count=5)
    stage.sync()
    drop(stage.primary, "docs")
    told = stage.command("sync").stdout
    assert f"chromasync approve {TENANT}/{stage.database}/docs" in told
    assert "SYNC_EXCLUDE" not in told


# ---- filters ---------------------------------------------------------------------------------


def warnings_of(stage: Stage, **overrides: str) -> list[tuple[str, ...]]:
    """What a cycle, a plan and a comparison warn of."""
    with stage.app(**overrides) as app:
        return [call(Quiet()).warnings for call in (app.sync, app.plan, app.verify)]


def unmatched(name: str) -> str:
    """What is said of a name that matches nothing."""
    return (
        f"SYNC_INCLUDE names {name!r}, but no collection of the primary matches it; note that "
        "patterns are case-sensitive."
    )


def test_filters_that_leave_nothing_are_told(stage: Stage) -> None:
    """A misspelt name in SYNC_INCLUDE is no empty primary, and no silent success."""
    assert warnings_of(stage, SYNC_INCLUDE="dosc") == [()] * 3
    stage.create("docs", count=1)
    only = "SYNC_INCLUDE and SYNC_EXCLUDE leave out the only collection of the primary."
    assert warnings_of(stage, SYNC_INCLUDE="dosc") == [(only, unmatched("dosc"))] * 3
    stage.create("users", count=1)
    both = "SYNC_INCLUDE and SYNC_EXCLUDE leave out all 2 collections of the primary."
    assert warnings_of(stage, SYNC_EXCLUDE="*") == [(both,)] * 3
    assert warnings_of(stage, SYNC_INCLUDE="docs") == [()] * 3
    assert f"Note: {both}\n" in stage.command("verify", SYNC_INCLUDE="dosc").stdout


@pytest.mark.long
def test_each_name_that_matches_nothing_is_told(stage: Stage) -> None:
    """Beside names that match, too: by `sync`, `plan`, `verify`, `status` and `doctor`."""
    for name in ("docs", "users"):
        stage.create(name, count=1)
    include = {"SYNC_INCLUDE": "docs,mial,user?,Users*"}
    each = (unmatched("mial"), unmatched("Users*"))
    assert warnings_of(stage, **include) == [each] * 3
    for command, code in (("sync", 0), ("status", 0), ("doctor", 2)):
        ended = stage.command(command, **include)
        assert ended.returncode == code, ended.stdout
        told = [
            line for line in ended.stdout.splitlines() if "SYNC_INCLUDE" in line and "mial" in line
        ]
        assert any("names 'mial', but no" in line for line in told), ended.stdout
        assert "names 'Users*'" in ended.stdout
        assert "names 'docs'" not in ended.stdout
    with stage.app(**include) as app:
        wrong = [check for check in app.doctor().checks if not check.ok]
    assert [check.name for check in wrong] == ["SYNC_INCLUDE"] * 2


def test_unknown_names_approve_nothing(stage: Stage) -> None:
    """A misspelt name is an error, and what is held stays held."""
    stage.overrides["SYNC_MAX_DELETE"] = "1"
    docs = stage.create(count=9)
    stage.sync()
    docs.delete(ids=["r0", "r1"])
    stage.sync()
    with pytest.raises(ChromasyncError, match="Nothing is held"):
        stage.approve("docs", "dosc")
    assert stage.status().holds[0].approved_count is None
