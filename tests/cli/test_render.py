from __future__ import annotations

from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from chromasync.cli.jsonout import Report
from chromasync.cli.render import Page, show, show_approval
from chromasync.reports import Outcome
from tests.cli.fakes import (
    HOLD,
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
(5 of them because the replica had changed by itself).
Identical as of 2030-01-02 12:00:00 UTC: 1,234 records in 1 collection.
"""

HELD = """\
default_tenant/archive/old: Look at it.
Held for old: deleting 500 records that the primary no longer has, \
because 500 of 600 records are gone. \
To let it through once: chromasync approve old
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
The replica at http://two:8000 gave no answer to go by.
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
    assert text.endswith("Held: a guard stopped deletes, everything else was written.\n")


def test_data_cannot_drive_the_terminal() -> None:
    """Control characters of record ids come out escaped."""
    assert "\x1b" not in printed(lambda page: show(page, cycle_report(Outcome.LIMITED)))


def test_approval_names_what_goes_through() -> None:
    """An approval says what was let through and when it happens."""
    assert printed(lambda page: show_approval(page, [HOLD])) == (
        "Approved for old: deleting 500 records that the primary no longer has.\n"
        "It goes through once, in the next cycle.\n"
    )
