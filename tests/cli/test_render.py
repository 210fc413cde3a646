from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from chromasync.cli.jsonout import Report
from chromasync.cli.page import LONGEST_CELL, Page, shortened
from chromasync.model import PRIMARY_EMPTY, Cycle, CycleStatus, Hold, HoldKind, WorkerStatus
from chromasync.plan.removals import UNCONFIRMED
from chromasync.reports import CycleReport, Outcome, StatusSnapshot
from chromasync.telling.render import show, show_approval
from tests.cli.fakes import (
    HOLD,
    NOON,
    cycle_report,
    doctor_report,
    plan_report,
    snapshot,
    verify_report,
)


def printed(render: Callable[[Page], None]) -> str:
    """What `render` puts on a page, without the spaces at the ends of lines."""
    file = StringIO()
    render(Page(Console(file=file, width=200, markup=False, highlight=False, emoji=False)))
    return "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines()) + "\n"


CYCLE = """\
Collection   Primary   Replica   Written   Deleted   State
──────────────────────────────────────────────────────────────
docs           1,234     1,234     1,034         2   identical

Cycle 7 took 3.2 s: 2,000 records read, 1,000 inserted, 30 updated, 4 replaced, 2 deleted \
(5 of them because others had changed the replica).
Identical as of 2030-01-02 12:00:00 UTC: 1,234 records in 1 collection.
"""

HELD = """\
default_tenant/archive/old: Look at it.
Held for default_tenant/archive/old: deleting 500 records that the primary no longer has, \
because 500 of 600 records are gone. \
To let it through once: chromasync approve default_tenant/archive/old@3f9a1b2c
Set aside in default_tenant/archive/old: record "bad\\n\\x1b[31mid", not on the replica. \
The replica refuses it.
Note: The replica cannot carry array metadata.
"""

PLAN = """\
Collection   Would    Create   Update   Delete   Same   To send
───────────────────────────────────────────────────────────────
docs         create    2,000        0        0      0    3.5 MB
old          hold          0        0      500    100   0 bytes

old: held: Too many.
A cycle would create 2,000, update 0 and delete 0 records: 3.5 MB, about 1 min 15 s. \
It would hold 500 deletes. \
Nothing was written.
"""

VERIFY = """\
Collection   Same   Missing   Extra   Changed   Inconclusive   Definition
─────────────────────────────────────────────────────────────────────────
docs           97         1       1         1              1   differs

+ docs "id0": finding 0
- docs "id1": finding 1
* docs "id2": finding 2
! docs "id3": finding 3
Different: 4 differences in 100 records compared in 1.5 s.
"""

STATUS = """\
Identical as of 2030-01-02 12:00:00 UTC, 12 s ago.

Collection   Primary   Replica   Identical as of   State
────────────────────────────────────────────────────────────
docs           1,234     1,234   12 s ago          identical

Cycle 7 is completed after 3.2 s, started 12 s ago: nothing written.
Tasks: 3 completed, 2 in work, 1 pending, 0 failed.
Worker w-1 is active, on task 42, last heard of 3 s ago: 81 MB, 13% CPU.
Every record is read again within 4 h.
"""

DOCTOR = """\
chromasync 0.1.0 on Python 3.11.7, role single.

ok    primary: It answers.
WRONG replica: No answer.
The primary at http://one:8000 says it is Chroma 1.0.0; it takes base64 embeddings, schemas, \
configurations, and at most 5,461 records in one write.
  No array metadata.
The replica at http://two:8000 gave no usable answer.
The state store is sqlite:///chromasync-data/chromasync.db; schema version 1.

Setting         Value   From
───────────────────────────────
SYNC_INTERVAL   300     default

1 check failed; see WRONG above.
"""


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (cycle_report(), CYCLE),
        (plan_report(), PLAN),
        (verify_report(), VERIFY),
        (snapshot(), STATUS),
        (doctor_report(), DOCTOR),
    ],
    ids=["sync", "plan", "verify", "status", "doctor"],
)
def test_reports_read_like_this(report: Report, text: str) -> None:
    """Each report prints exactly this: tables for collections, sentences for the rest."""
    assert printed(lambda page: show(page, report)) == text


def test_a_held_cycle_lists_all_that_needs_attention() -> None:
    """Messages, holds with the way out, quarantined records (escaped) and warnings are listed."""
    text = printed(lambda page: show(page, cycle_report(Outcome.HELD)))
    assert HELD in text
    assert text.endswith("Held: a guard stopped deletes; everything else was written.\n")


HERE = replace(HOLD, database="default_database")
DROP = replace(HOLD, kind=HoldKind.DROP, reason=UNCONFIRMED[HoldKind.DROP], unconfirmed=True)
FOREIGN = replace(HOLD, collection_id="id-foreign", tenant="", database="")


@pytest.mark.parametrize(
    ("holds", "name", "ways"),
    [
        ([HERE], "old", ["old@3f9a1b2c"]),
        ([FOREIGN], "old", ["old@3f9a1b2c"]),
        ([HOLD], "default_tenant/archive/old", ["default_tenant/archive/old@3f9a1b2c"]),
        (
            [HERE, HOLD, FOREIGN],
            "old",
            [
                "default_tenant/default_database/old@3f9a1b2c",
                "default_tenant/archive/old@3f9a1b2c",
                "id-foreign@3f9a1b2c",
            ],
        ),
        (
            [replace(HOLD, database="a b")],
            "default_tenant/a b/old",
            ["'default_tenant/a b/old@3f9a1b2c'"],
        ),
    ],
    ids=["default place", "no place", "other place", "all three", "space"],
)
def test_what_is_printed_to_approve_by_is_one_collection_alone(
    holds: list[Hold], name: str, ways: list[str]
) -> None:
    """The name, with its place where it needs one; an id where there is no other difference."""
    text = printed(lambda page: show(page, replace(snapshot(), holds=tuple(holds))))
    assert f"Held for {name}: deleting 500 records" in text
    found = [line.rpartition("chromasync approve ")[2] for line in text.splitlines()]
    assert [way for way in found if way in ways] == ways
    assert text.count("chromasync approve") == len(ways)


@pytest.mark.parametrize("report", [cycle_report(Outcome.HELD), snapshot()])
def test_a_vanished_collection_waits_for_no_approval(report: CycleReport | StatusSnapshot) -> None:
    """The next cycle drops it by itself, and a setting keeps it; for other reasons it is asked."""
    text = printed(lambda page: show(page, replace(report, holds=(DROP,))))
    assert (
        f"because {UNCONFIRMED[HoldKind.DROP]}. It needs no approval: the next successful "
        "cycle does it if nothing has changed. SYNC_EXCLUDE=old keeps the collection.\n"
    ) in text
    assert "chromasync approve" not in text
    many = replace(DROP, reason="3 of 4 collections are gone at once", unconfirmed=False)
    text = printed(lambda page: show(page, replace(report, holds=(many,))))
    assert (
        "To let it through once: chromasync approve default_tenant/archive/old@3f9a1b2c\n" in text
    )
    assert "SYNC_EXCLUDE" not in text


DIED = Cycle(8, NOON, CycleStatus.FAILED, NOON + timedelta(seconds=2), error="It is\x07 away.")
OPEN = Cycle(9, NOON + timedelta(seconds=5), CycleStatus.RUNNING)
FAILURE = "Cycle 8 is failed after 2 s, started 12 s ago: nothing written. It is\\x07 away.\n"


def test_the_status_says_why_the_last_cycle_failed() -> None:
    """Its reason stands with it, also when the next one is under way already."""
    text = printed(lambda page: show(page, replace(snapshot(), cycles=(DIED,))))
    assert FAILURE in text
    text = printed(lambda page: show(page, replace(snapshot(), cycles=(OPEN, DIED))))
    assert f"Cycle 9 is running, started 7 s ago: nothing written.\n{FAILURE}" in text
    ended = replace(DIED, id=9, status=CycleStatus.COMPLETED, error=None)
    text = printed(lambda page: show(page, replace(snapshot(), cycles=(ended, DIED))))
    assert "Cycle 8" not in text


def test_a_cycle_that_nobody_is_at_work_on_is_not_running() -> None:
    """A process that was killed leaves its cycle open; with no other there, it was not finished."""
    (worker,) = snapshot().workers
    dead = replace(worker, status=WorkerStatus.DEAD)
    text = printed(lambda page: show(page, replace(snapshot(), cycles=(OPEN,), workers=(dead,))))
    assert (
        "Cycle 9 was not finished, and no process works on it, started 7 s ago: nothing written.\n"
    ) in text
    assert "is running" not in text
    assert "Worker w-1 is dead" in text


def test_a_comparison_tells_what_its_repair_left_and_why() -> None:
    """Holds with the way out, records that were set aside, and warnings, as `sync` prints them."""
    report = replace(
        verify_report(), repaired=True, repair=cycle_report(Outcome.HELD), warnings=("Look out.",)
    )
    text = printed(lambda page: show(page, report))
    assert HELD in text
    assert "Note: Look out.\n" in text
    assert text.splitlines()[-1].startswith("Still different after the repair: 4 differences")


def test_data_cannot_drive_the_terminal() -> None:
    """Control characters of record ids come out escaped."""
    assert "\x1b" not in printed(lambda page: show(page, cycle_report(Outcome.LIMITED)))


def test_approval_names_what_goes_through() -> None:
    """An approval says what was let through and when it happens."""
    assert printed(lambda page: show_approval(page, [HOLD])) == (
        "Approved for default_tenant/archive/old: "
        "deleting 500 records that the primary no longer has.\n"
        "The next cycle carries it out, once.\n"
    )


def test_an_adoption_that_is_held_names_both_ways_out() -> None:
    """Approving one, or taking over all; the last line does not say that all was written."""
    held = replace(HOLD, kind=HoldKind.ADOPTION, reason="it is another one")
    report = replace(cycle_report(Outcome.HELD), holds=(held,))
    text = printed(lambda page: show(page, report))
    assert "writing to a collection that the replica already had, with 500 records" in text
    assert "approve default_tenant/archive/old@3f9a1b2c, or chromasync sync --adopt" in text
    assert "everything else was written" not in text


@pytest.mark.parametrize("name", ["n" * 512, "n" * 61, "\u4e2d" * 80, "\u4e2da" * 40])
def test_long_names_are_shortened_in_tables(name: str) -> None:
    """By the columns that they take; the beginning and the end stay."""
    short = shortened(name, LONGEST_CELL)
    assert LONGEST_CELL - 2 <= cell_len(short) <= LONGEST_CELL
    assert (short[:5], short[-5:]) == (name[:5], name[-5:])
    assert "\u2026" in short
    report = cycle_report()
    long = replace(report, collections=(replace(report.collections[0], name=name),))
    assert short in printed(lambda page: show(page, long))


def test_what_fits_is_not_shortened() -> None:
    """Sixty columns are enough for most names."""
    assert shortened("n" * LONGEST_CELL, LONGEST_CELL) == "n" * LONGEST_CELL


def test_the_hold_of_an_empty_primary_says_that_the_replica_may_be_the_only_copy() -> None:
    """That, and how to go on, stands before the command that approves."""
    hold = replace(HOLD, reason=PRIMARY_EMPTY)
    held = replace(cycle_report(), outcome=Outcome.HELD, holds=(hold,))
    said = printed(lambda page: show(page, held))
    assert said.index("may be the only copy left") < said.index("restore the primary")
    assert said.index("restore the primary") < said.index("chromasync approve")


def test_what_cannot_be_read_is_told_from_what_changed_meanwhile() -> None:
    """Both leave a comparison without a result, for reasons of their own."""
    report = verify_report()
    one = replace(report.collections[0], missing=0, extra=0, changed=0, definition_differs=False)
    unread = replace(one, inconclusive=3, unreadable=2)
    said = printed(lambda page: show(page, replace(report, collections=(unread,), findings=())))
    assert (
        "1 record changed during the comparison. 2 records cannot be read on the primary." in said
    )
