"""How the table is made of what was measured."""

import copy
from typing import Any

import pytest

from bench.report import Row, as_markdown, is_sound, rows_of

GOOD = {"identical": True, "text": "identical"}
BAD = {"identical": False, "text": "3 missing"}


def a_run(seconds: float, **more: Any) -> dict[str, Any]:
    cycle = {"seconds": seconds, "cpu_seconds": 0.5, "read": 1000, "applied": 0}
    usage = {"peak_rss_mb": 80.0, "start_seconds": 0.3, "open_seconds": 0.0}
    servers = {"primary_cpu_seconds": 3.0, "replica_cpu_seconds": 1.0}
    return {"cycles": [cycle | more], "fidelity": GOOD} | usage | servers


def another(seconds: float) -> dict[str, Any]:
    usage = {"peak_rss_mb": 130.0, "start_seconds": 1.0, "cpu_seconds": 2.0}
    return {"seconds": seconds, "fidelity": GOOD} | usage


def traffic(writes: int, sent: int) -> dict[str, Any]:
    wire = {"requests": 10, "writes": writes, "bytes_sent": sent, "bytes_received": 1000}
    return {"primary": wire | {"writes": 0}, "replica": wire}


@pytest.fixture
def results() -> dict[str, Any]:
    """One round in which every goal is reached."""
    quiet = {phase: traffic(0, 10) for phase in ("settle", "unchanged", "walk")}
    ours = quiet | {"copy": traffic(5, 1_000_000), "change": traffic(1, 20_000)}
    naive = {"copy": traffic(5, 1_000_000), "unchanged": traffic(5, 1_000_000)}
    after = {"fidelity_after_edits": GOOD}
    round_ = {
        "raw_copies": {"1000": another(1.1), "5461": another(1.0)},
        "naive_copy": another(1.3),
        "naive_rerun": another(60.0),
        "raw_read": another(2.0),
        "ours_copy": a_run(1.05),
        "ours_reread": a_run(2.1),
        "ours_walk": a_run(0.1, read=0),
        "ours_change": a_run(2.3),
    }
    counted = {"naive": naive | after, "ours": ours | after}
    shape = {"name": "384 dimensions", "records": 1000, "rounds": [round_]}
    return {"shapes": [shape], "counted_records": 1000, "counted": counted}


@pytest.fixture
def round_(results: dict[str, Any]) -> dict[str, Any]:
    """The one round of the results."""
    (only,) = results["shapes"][0]["rounds"]
    assert isinstance(only, dict)
    return only


def row(results: dict[str, Any], what: str) -> Row:
    return next(row for row in rows_of(results) if row.what.startswith(what))


def test_ratios_stand_beside_their_goals(results: dict[str, Any]) -> None:
    """Every promised ratio is computed against the better raw copy, and reached here."""
    copied = row(results, "first copy, records")
    assert (copied.ratio, copied.goal) == ("0.95", "≥ 0.95 of raw")
    assert copied.raw == "909 (1,000 a request) · 1,000 (5,461 a request)"
    assert row(results, "unchanged, everything").ratio == "0.95"
    assert row(results, "CPU, everything").ratio == "12%"
    assert row(results, "bytes to the replica").ours == "2.00%"
    assert {row.reached for row in rows_of(results)} == {True, None}
    assert is_sound(results)


def test_a_missed_goal_is_shown(results: dict[str, Any], round_: dict[str, Any]) -> None:
    """A slow copy says so in its own line."""
    round_["ours_copy"] = a_run(2.0)
    slow = row(results, "first copy, records")
    assert (slow.ratio, slow.reached, slow.cells[-1]) == ("0.50", False, "NO")


def test_too_much_cpu_and_memory_are_shown(results: dict[str, Any], round_: dict[str, Any]) -> None:
    """Both goals are judged as the speeds are."""
    round_["ours_reread"] = a_run(2.1, cpu_seconds=0.7) | {"peak_rss_mb": 201.0}
    assert row(results, "CPU, everything").reached is False
    assert row(results, "peak memory").reached is False


def test_the_median_of_the_rounds_counts(results: dict[str, Any], round_: dict[str, Any]) -> None:
    """One slow round out of three does not decide."""
    slow = copy.deepcopy(round_)
    slow["ours_copy"] = a_run(9.0)
    results["shapes"][0]["rounds"] = [round_, slow, round_]
    assert row(results, "first copy, records").ratio == "0.95"


def test_who_is_not_identical_gets_no_rank(results: dict[str, Any], round_: dict[str, Any]) -> None:
    """A naive loop that lost records is shown so, and its speed is not."""
    round_["naive_copy"]["fidelity"] = BAD
    assert row(results, "fidelity").naive == "3 missing"
    assert row(results, "first copy, records").naive == "not ranked"
    assert row(results, "first copy, records").ratio == "0.95"


def test_a_peer_is_judged_before_its_speed_is_shown(
    results: dict[str, Any], round_: dict[str, Any]
) -> None:
    """The rate of a copy that is not identical is not shown, and an absent peer has no line."""
    assert not [r for r in rows_of(results) if "chromadb-data-pipes" in r.what]
    round_["pipes_copy"] = another(2.0)
    assert row(results, "first copy by chromadb-data-pipes").naive == "500"
    round_["pipes_copy"]["fidelity"] = BAD
    assert row(results, "first copy by chromadb-data-pipes").naive == "3 missing: not ranked"


@pytest.mark.parametrize("measurement", ["ours_copy", "ours_change"])
def test_our_own_faults_count_most(
    results: dict[str, Any], round_: dict[str, Any], measurement: str
) -> None:
    """If our replica differs, no speed of ours is ranked and the bench fails."""
    round_[measurement]["fidelity"] = BAD
    assert row(results, "fidelity").ours == "3 missing"
    for what in ("first copy, records", "unchanged, everything", "metadata of 1 %"):
        assert row(results, what).ours == "not ranked"
    assert not is_sound(results)


def test_a_needless_write_fails_the_bench(results: dict[str, Any]) -> None:
    """One write in a cycle with nothing to do is one too many."""
    results["counted"]["ours"]["walk"] = traffic(1, 10)
    assert row(results, "writes in an unchanged").cells[-1] == "NO"
    assert not is_sound(results)


def test_a_cycle_that_did_not_read_all_is_no_full_cycle(
    results: dict[str, Any], round_: dict[str, Any]
) -> None:
    """The re-read counts only if every record was read, the walk only if none was."""
    round_["ours_reread"] = a_run(0.1, read=500)
    assert row(results, "unchanged, everything").reached is False
    round_["ours_walk"] = a_run(0.1, read=5)
    assert row(results, "unchanged, ids").ours == "not ranked"


def test_markdown_has_one_line_per_row(results: dict[str, Any]) -> None:
    """The table for the page is a valid pipe table."""
    rows = rows_of(results)
    lines = as_markdown(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1
