"""Numbers, sizes, durations and instants as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))


def number(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """A count with its noun: `1 record`, `2,000 records`."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def size(count: float) -> str:
    """A number of bytes, in the unit that keeps it short."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds in the two largest units: `0.3 s`, `42 s`, `3 min 20 s`, `2 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    place = next(place for place, (length, _) in enumerate(UNITS) if whole >= length)
    (length, unit), (rest_length, rest_unit) = UNITS[place : place + 2]
    rest = whole % length // rest_length
    return f"{whole // length} {unit}" + (f" {rest} {rest_unit}" if rest else "")


def ago(instant: datetime, now: datetime) -> str:
    """How long before `now` an instant was: `3 s ago`."""
    return f"{duration((now - instant).total_seconds())} ago"


def moment(instant: datetime) -> str:
    """An instant to the second, in UTC."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def plain(text: str) -> str:
    """`text` with everything unprintable escaped, so that data cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def full_name(tenant: str, database: str, name: str) -> str:
    """A collection's name, with tenant and database where they are not the default ones."""
    if (tenant, database) == ("default_tenant", "default_database"):
        return plain(name)
    return plain(f"{tenant}/{database}/{name}")
