from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chromasync.wording.words import ago, duration, full_name, moment, plain, plural, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.04, "0 s"),
        (0.25, "0.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7384, "2 h 3 min"),
        (86400 * 3 + 7200, "3 d 2 h"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float, text: str) -> None:
    """A duration is as short as it can be without misleading."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (5e15, "5000.0 TB")],
)
def test_sizes_use_the_unit_that_keeps_them_short(count: float, text: str) -> None:
    """Bytes are shown in decimal units."""
    assert size(count) == text


def test_counts_take_the_right_form_of_the_noun() -> None:
    """One record, several records, thousands separated."""
    assert [plural(n, "record") for n in (0, 1, 1234567)] == [
        "0 records",
        "1 record",
        "1,234,567 records",
    ]


def test_instants_are_shown_in_utc() -> None:
    """An instant of another zone is the same instant in UTC, and is told relative to now."""
    instant = datetime(2030, 1, 2, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    assert moment(instant) == "2030-01-02 10:00:00 UTC"
    assert ago(instant, datetime(2030, 1, 2, 10, 0, 3, tzinfo=UTC)) == "3 s ago"


def test_text_of_others_is_escaped() -> None:
    """What cannot be printed is escaped; letters of all languages stay."""
    assert plain("grün\n\x1b[0m\u202e") == "grün\\n\\x1b[0m\\u202e"
    assert full_name("default_tenant", "default_database", "a") == "a"
    assert full_name("t\n", "d", "a") == "t\\n/d/a"
