"""The command `restore`: what it passes on, and what it says."""

from __future__ import annotations

import json

from tests.cli.conftest import Invoke
from tests.cli.fakes import FakeProgram, restore_report

REPLICA = ("--replica", "http://two:8000")


def test_an_identical_copy(invoke: Invoke, fake: FakeProgram) -> None:
    """Only the replica's URL is needed; the last sentence says what to do next."""
    result = invoke("restore", "--to", "http://new:8000", "--collection", "docs", *REPLICA)
    assert result.exit_code == 0
    assert fake.asked == [("restore", "http://new:8000", "docs")]
    assert result.stdout.splitlines()[-1] == (
        "http://new:8000 is identical to the replica, record by record and by queries: 1,234 "
        "records in 1 collection (1,234 records written in 12 s). Set PRIMARY_URL=http://new:8000 "
        "and restart the service; the next cycle copies nothing."
    )
    assert "docs" in result.stdout.splitlines()[2]


def test_a_copy_that_differs(invoke: Invoke, fake: FakeProgram) -> None:
    """The exit code is not 0, the circumstances are told, and the command for details too."""
    fake.restored = restore_report(different=2, warnings=("docs is\x07 held.",))
    result = invoke("restore", "--to", "http://new:8000", *REPLICA)
    assert result.exit_code == 1
    assert "docs is\\x07 held.\n" in result.stdout
    assert "is not identical to the replica; the same so far: 1,234 records" in result.stdout
    assert "chromasync verify --primary http://new:8000 --replica http://two:80" in result.stdout
    fake.restored = restore_report(different=2, cycle_code=6)
    document = json.loads(invoke("restore", "--to", "http://new:8000", *REPLICA, "--json").stdout)
    assert (document["exit_code"], document["is_identical"]) == (6, False)


def test_a_part(invoke: Invoke, fake: FakeProgram) -> None:
    """What was left out is counted, because a cycle would take it for dropped."""
    fake.restored = restore_report(left_out=("t/d/a", "t/d/b"))
    result = invoke("restore", "--to", "http://new:8000", *REPLICA)
    assert result.exit_code == 0
    assert "Left out: 2 collections of the replica." in result.stdout
    assert "copies nothing" not in result.stdout


def test_the_target_is_required(invoke: Invoke, fake: FakeProgram) -> None:
    """Without --to nothing is asked; without a state store, there is no next step to name."""
    assert invoke("restore", *REPLICA).exit_code == 2
    assert fake.asked == []
    fake.restored = restore_report(recorded=False)
    assert "PRIMARY_URL" not in invoke("restore", "--to", "http://new:8000", *REPLICA).stdout
