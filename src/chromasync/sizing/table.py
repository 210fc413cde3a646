"""The table of thresholds, rates and prices; `table.toml` has the start values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chromasync.errors import SettingsError

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Whole = Annotated[int, Field(gt=0)]


class _Part(BaseModel):
    """A part of the table: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(_Part):
    """Limits of the guide, and the least history that says something."""

    documents: Whole
    memory_share: Share
    cycle_seconds: Above
    growth_per_day: Above
    interval_share: Share
    reread_days: Above
    waiting_share: Share
    throttled_share: Share
    serial_share: Share
    slow_factor: Above
    cycles: Whole
    growth_hours: Above
    busy_minutes: Above


class Phase(_Part):
    """A phase of the guide, for fewer than `below_documents` documents."""

    name: str
    below_documents: Whole
    workers: Annotated[int, Field(ge=0)]
    plan: str
    chunk_size: Whole


class Rates(_Part):
    """Times of a server for records of any size; see `sizing.effort`."""

    read_record_us: AtLeastZero
    read_float_ns: AtLeastZero
    read_byte_ns: AtLeastZero
    write_record_us: Above
    write_float_ns: AtLeastZero
    write_text_us: AtLeastZero
    rewrite_factor: Above
    update_factor: Above
    delete_record_us: AtLeastZero
    growth_factor: AtLeastZero
    sort_ns: AtLeastZero
    request_ms: AtLeastZero
    id_us: Above
    cycle_ms: AtLeastZero
    collection_ms: AtLeastZero
    answer_bytes_per_float: Above


class Sizes(_Part):
    """Memory and disk for each record."""

    state_bytes_per_record: Above
    server_bytes_per_record: AtLeastZero
    server_base_mb: AtLeastZero
    disk_bytes_per_record: AtLeastZero
    disk_text_factor: AtLeastZero
    process_mb: Above


class Plan(_Part):
    """A plan of a host, by its memory."""

    name: str
    memory_mb: Whole
    monthly: AtLeastZero


class Database(_Part):
    """A plan of a PostgreSQL server, by its disk."""

    name: str
    disk_gb: Above
    monthly: AtLeastZero


class Prices(_Part):
    """Monthly prices; the lists are ordered by size."""

    currency: str
    disk_gb: AtLeastZero
    plans: Annotated[tuple[Plan, ...], Field(min_length=1)]
    databases: Annotated[tuple[Database, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_order(self) -> Prices:
        if _sizes(p.memory_mb for p in self.plans) or _sizes(d.disk_gb for d in self.databases):
            raise ValueError("plans and databases must be ordered by size, smallest first")
        return self


class Table(_Part):
    """All of it."""

    thresholds: Thresholds
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    rates: Rates
    sizes: Sizes
    prices: Prices

    @model_validator(mode="after")
    def _check_phases(self) -> Table:
        if _sizes(phase.below_documents for phase in self.phases):
            raise ValueError("phases must be ordered by below_documents, smallest first")
        known = {plan.name for plan in self.prices.plans}
        for phase in self.phases:
            if phase.plan not in known:
                raise ValueError(
                    f"{phase.name!r} names the plan {phase.plan!r}, which has no price"
                )
        return self

    def phase_for(self, documents: int) -> Phase:
        """The guide's phase for so many documents; the largest one for more than it knows."""
        return next((p for p in self.phases if documents < p.below_documents), self.phases[-1])


def _sizes(given: Any) -> bool:
    """Whether sizes are out of order."""
    sizes = list(given)
    return sizes != sorted(set(sizes))


def start_text() -> str:
    """The start values, as a file to copy and change."""
    return files("chromasync.sizing").joinpath("table.toml").read_text(encoding="utf-8")


@cache
def load_table(path: Path | None = None) -> Table:
    """The table, with the values of the file at `path` in place of the start values.

    Raises:
        SettingsError: the file cannot be read, or a value in it is unknown or not allowed.
    """
    start = tomllib.loads(start_text())
    if path is None:
        return Table.model_validate(start)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        return Table.model_validate(_overlaid(start, given))
    except ValidationError as error:
        raise _refusal(path, "; ".join(_sentence(dict(one)) for one in error.errors())) from None
    except (OSError, ValueError) as error:
        raise _refusal(path, str(error)) from None


def _overlaid(start: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(start)
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _overlaid(below, value)
        else:
            merged[key] = value
    return merged


def _sentence(one: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in one["loc"])
    words = str(one["msg"]).removeprefix("Value error, ")
    return f"{place}: {words}" if place else words


def _refusal(path: Path, why: str) -> SettingsError:
    return SettingsError(
        f"The file {str(path)!r}, which SYNC_ADVICE_TABLE names, cannot be used: {why}.",
        untouched="Nothing was started.",
        hint="`chromasync advise --table` prints the start values.",
    )
