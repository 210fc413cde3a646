"""The limits themselves: what is out of them is named, and the file is written on demand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cost import limits
from tests.cost.meter import UNTIMED, Figures

USUAL = Figures(20, 10_000, 400_000, 60, 300_000, 500_000, 480, 160)


def test_what_is_as_expected_or_nearly_is_not_told() -> None:
    """Instants of other lengths and a few statements are no difference."""
    nearly = USUAL._replace(primary_sent=10_150, statements=485, rows_written=161)
    assert limits.differences("copy", nearly, USUAL) == []
    assert limits.differences("copy", USUAL._replace(replica_received=460_000), USUAL) == []


def test_a_figure_that_grew_is_named() -> None:
    """One request more is told, with both figures and the phase."""
    (said,) = limits.differences("copy", USUAL._replace(primary_requests=21), USUAL)
    assert said == "copy: primary requests grew from 20 to 21."


def test_a_figure_that_fell_asks_for_a_lower_limit() -> None:
    """The gain is kept: nobody may lose it again unnoticed."""
    (said,) = limits.differences("copy", USUAL._replace(statements=400), USUAL)
    assert said == "copy: statements fell from 480 to 400: lower the limit."


def test_the_file_is_written_where_the_environment_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other phases stay; without the variable nothing is written, and a difference fails."""
    monkeypatch.setattr(limits, "FILE", tmp_path / "limits.txt")
    monkeypatch.setenv(limits.ACCEPT, "yes")
    limits.check({"copy": USUAL})
    limits.check({"again": USUAL._replace(statements=3)})
    monkeypatch.delenv(limits.ACCEPT)
    assert limits.load() == {"copy": USUAL, "again": USUAL._replace(statements=3)}
    limits.check({"copy": USUAL})
    with pytest.raises(AssertionError, match=r"other: it is not in limits.txt(.|\n)*=yes"):
        limits.check({"other": USUAL})


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        ("SELECT sync_chunks.id \nFROM sync_chunks", True),
        ("UPDATE sync_tasks SET task_status=?", True),
        ("SELECT count(*) AS count_1 \nFROM sync_tasks", False),
        ("BEGIN IMMEDIATE", False),
        ("UPDATE sync_workers SET last_heartbeat=?", False),
        ("INSERT INTO performance_metrics (recorded_at) VALUES (?)", False),
    ],
)
def test_statements_that_depend_on_time_do_not_count(statement: str, counts: bool) -> None:
    """Waiting, claiming and signs of life are left out, and nothing else."""
    assert (UNTIMED.match(statement) is None) == counts
