"""What a number of documents would take: time, state, memory, disk and money; pure.

Times follow from the rates of the table and from the measured pace of both servers (`sizing`).
"""

from __future__ import annotations

from dataclasses import dataclass

from chromasync.advice_reports import Cost, Forecast
from chromasync.config import Settings
from chromasync.ledger.scrub import SIDES
from chromasync.sizing.effort import (
    Load,
    Writes,
    fixed_seconds,
    read_seconds,
    slowdown,
    walk_seconds,
    write_seconds,
)
from chromasync.sizing.table import Phase, Table

MB, GB = 1e6, 1e9
BYTES_PER_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """What a forecast takes from the present.

    Attributes:
        each: an average record.
        collections: their number, which stays as it is.
        growth_per_day: new documents a day, which grow in proportion; None when unknown.
        read_pace, write_pace: how many times slower than the table; None when not measured.
        threads: worker threads in each process.
    """

    each: Load
    collections: int
    growth_per_day: float | None
    documents: int
    read_pace: float | None
    write_pace: float | None
    threads: int


def forecast(documents: int, now: Measured, settings: Settings, table: Table) -> Forecast:
    """The forecast for so many documents."""
    phase = table.phase_for(documents)
    load = now.each.scaled_to(documents)
    memory_mb, disk_gb = _server_memory_mb(load, table), _server_disk_gb(load, table)
    state = documents * table.sizes.state_bytes_per_record
    costs, unpriced = _costs(phase, memory_mb, disk_gb, state, table)
    return Forecast(
        documents=documents,
        phase=phase.name,
        first_copy_seconds=_first_copy(load, now, table),
        cycle_seconds=_cycle(load, now, phase, settings, table),
        reread_seconds=_reread(load, now, phase, settings, table),
        state_bytes=state,
        server_memory_mb=memory_mb,
        server_disk_gb=disk_gb,
        process_memory_mb=table.sizes.process_mb,
        costs=costs,
        currency=table.prices.currency,
        rates=_rates(documents, now, table),
        unpriced=unpriced,
    )


def _first_copy(load: Load, now: Measured, table: Table) -> float:
    """The replica's writes one after another; reading is faster, and done meanwhile."""
    rates = table.rates
    per_collection = load.records / max(now.collections, 1)
    flat = write_seconds(Writes(new=load), rates) / slowdown(load.records / 2, rates)
    writing = flat * slowdown(per_collection / 2, rates) * (now.write_pace or 1.0)
    return fixed_seconds(now.collections, rates) + writing + _walk(load, now, table)


def _walk(load: Load, now: Measured, table: Table) -> float:
    return walk_seconds(load.records, now.collections, table.rates) * (now.read_pace or 1.0)


def _cycle(load: Load, now: Measured, phase: Phase, settings: Settings, table: Table) -> float:
    """A usual cycle: the walk, the re-reads within the budget, and the new records."""
    growth = (now.growth_per_day or 0.0) * load.records / max(now.documents, 1)
    new = load.scaled_to(round(max(growth, 0.0) * settings.sync_interval / 86_400))
    reading = _all_once(load, now, table) / (now.threads * (phase.workers + 1))
    budget = settings.sync_scrub_budget * settings.sync_interval
    writing = write_seconds(Writes(new=new), table.rates, present=load.records)
    return (
        fixed_seconds(now.collections, table.rates)
        + _walk(load, now, table)
        + min(reading, budget)
        + writing * (now.write_pace or 1.0)
    )


def _reread(
    load: Load, now: Measured, phase: Phase, settings: Settings, table: Table
) -> float | None:
    """The time within which every record is read again, on both sides."""
    if settings.sync_scrub_budget == 0:
        return None
    threads = now.threads * (phase.workers + 1)
    each_cycle = settings.sync_scrub_budget * settings.sync_interval * threads
    cycles = max(1.0, SIDES * _all_once(load, now, table) / each_cycle)
    length = max(settings.sync_interval, _cycle(load, now, phase, settings, table))
    return cycles * length


def _all_once(load: Load, now: Measured, table: Table) -> float:
    return read_seconds(load, table.rates) * (now.read_pace or 1.0)


def _server_memory_mb(load: Load, table: Table) -> float:
    """An index holds all embeddings in memory."""
    each = load.records * table.sizes.server_bytes_per_record
    return table.sizes.server_base_mb + (load.floats * BYTES_PER_FLOAT + each) / MB


def _server_disk_gb(load: Load, table: Table) -> float:
    """Embeddings in the index and in its log, text with its index, and the rest."""
    sizes = table.sizes
    embeddings = 2 * load.floats * BYTES_PER_FLOAT
    text = load.text_bytes * sizes.disk_text_factor
    return (embeddings + text + load.records * sizes.disk_bytes_per_record) / GB


def _costs(
    phase: Phase, memory_mb: float, disk_gb: float, state: float, table: Table
) -> tuple[tuple[Cost, ...], tuple[str, ...]]:
    """The monthly price of each part, and the parts that no plan is large enough for."""
    prices, share = table.prices, table.thresholds.memory_share
    server = next((p for p in prices.plans if memory_mb <= share * p.memory_mb), None)
    database = next((d for d in prices.databases if state <= share * d.disk_gb * GB), None)
    process = next(p for p in prices.plans if p.name == phase.plan)
    costs, unpriced = [], []
    if server is None:
        unpriced.append(f"two servers with {memory_mb / 1000:,.0f} GB of memory")
    else:
        costs.append(Cost(f"primary and replica, plan {server.name!r} each", 2 * server.monthly))
    costs.append(Cost(f"two disks of {disk_gb:,.0f} GB", 2 * disk_gb * prices.disk_gb))
    if database is None:
        unpriced.append(f"a database of {state / GB:,.0f} GB")
    else:
        costs.append(Cost(f"PostgreSQL, plan {database.name!r}", database.monthly))
    processes = phase.workers + 1
    words = f"{processes} processes of chromasync" if phase.workers else "one process of chromasync"
    costs.append(Cost(f"{words}, plan {process.name!r}", processes * process.monthly))
    return tuple(costs), tuple(unpriced)


def _rates(documents: int, now: Measured, table: Table) -> tuple[str, ...]:
    """One sentence for each rate that was used."""
    rates, each, sizes = table.rates, now.each.scaled_to(1000), table.sizes
    length = documents / max(now.collections, 1)
    walk = walk_seconds(documents, now.collections, rates)
    writing = write_seconds(Writes(new=each), rates)
    size = f"A record has {now.each.floats:,.0f} numbers and {now.each.text_bytes:,.0f} bytes"
    memory = (
        f"{BYTES_PER_FLOAT} bytes of memory for each number and {sizes.server_bytes_per_record:g}"
    )
    return (
        f"{size} of text.",
        _rate("Writing", writing, now.write_pace, "replica"),
        _rate("Reading", read_seconds(each, rates), now.read_pace, "primary"),
        f"An index of {length:,.0f} records is {slowdown(length, rates):.2f} times slower.",
        f"Listing all ids takes {walk:,.1f} s by the table, times the pace of the primary.",
        f"A record takes {sizes.state_bytes_per_record:g} bytes of state.",
        f"A server takes {memory} more for each record.",
    )


def _rate(doing: str, seconds: float, pace: float | None, side: str) -> str:
    known = "not measured yet" if pace is None else "measured here"
    by = f"{seconds:.3f} s by the table, times the pace of the {side}, {pace or 1.0:.2f} ({known})"
    return f"{doing} 1,000 records takes {seconds * (pace or 1.0):.3f} s: {by}."
