"""How many times slower than the table's rates a server is, from measurements; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chromasync.model import Measurement, Traffic
from chromasync.sizing.effort import Load, Writes, pace_of, read_seconds, write_seconds
from chromasync.sizing.table import Rates

BYTES_PER_FLOAT_SENT = 16 / 3
"""A float32 in base64."""
WRITING_PHASES = ("walk", "probe", "plan", "reconcile")
"""Phases of a cycle in which the replica is written to."""
LEAST_WRITTEN = 200
"""Cycles that wrote fewer records say nothing about the pace."""
LEAST_READ = 1000
"""Rows with fewer records read say nothing about the size of a record."""
LATEST = 20


def is_copy(cycle: Measurement) -> bool:
    """Whether a cycle spent most of its time on writes."""
    return cycle.records_written * 10 > cycle.records_read


def read_pace(traffic: Traffic, load: Load, rates: Rates) -> float:
    """The pace of a server that gave these records to one thread at a time."""
    text = max(0.0, traffic.bytes_read - load.floats * rates.answer_bytes_per_float)
    by_table = read_seconds(replace(load, text_bytes=text), rates)
    return pace_of(traffic.seconds, by_table + traffic.requests * rates.request_ms / 1e3)


def write_pace(
    history: Sequence[Measurement], floats_per_record: float, rates: Rates
) -> float | None:
    """The pace of the replica in the latest cycles that mostly wrote; None without such a cycle.

    Args:
        floats_per_record: the average dimension of the records.
    """
    copies = [one for one in history if one.is_cycle and is_copy(one)]
    sound = [
        one
        for one in copies
        if one.records_written >= LEAST_WRITTEN
        and one.phase_seconds
        and (one.active_workers > 1 or _sends_embeddings(one, floats_per_record))
    ]
    latest = sound[-LATEST:]
    by_table = sum(_write_seconds(one, history, floats_per_record, rates) for one in latest)
    return pace_of(sum(map(writing_time, latest)), by_table) if latest else None


def writing_time(cycle: Measurement) -> float:
    """The time of a cycle's phases with writes."""
    return sum(cycle.phase_seconds.get(phase, 0.0) for phase in WRITING_PHASES)


def text_per_record(
    measured: Iterable[Measurement], floats_per_record: float, rates: Rates
) -> float:
    """Bytes of document, metadata and uri of an average record; 0 when unknown.

    Copies show it exactly: they send whole records. Reads show it nearly, because the answers of
    walks are counted with them; so the rows with the smallest answers are taken.
    """
    rows = list(measured)
    copies = [one for one in rows if is_copy(one) and _sends_embeddings(one, floats_per_record)]
    records = sum(one.records_written for one in copies)
    if records:
        sent = sum(one.bytes_written for one in copies) / records
        return sent - floats_per_record * BYTES_PER_FLOAT_SENT
    read = sorted(one.bytes_read / one.records_read for one in rows if _reads_much(one))
    if not read:
        return 0.0
    answered = read[len(read) // 4]
    return max(0.0, answered - floats_per_record * rates.answer_bytes_per_float)


def _sends_embeddings(one: Measurement, floats_per_record: float) -> bool:
    """Whether a row's requests were large enough for the embeddings of all its records."""
    least = one.records_written * floats_per_record * BYTES_PER_FLOAT_SENT
    return one.records_written >= LEAST_WRITTEN and one.bytes_written >= max(least, 1.0)


def _reads_much(one: Measurement) -> bool:
    return one.records_read >= LEAST_READ and one.bytes_read > 0


def _write_seconds(
    cycle: Measurement, history: Sequence[Measurement], floats: float, rates: Rates
) -> float:
    own = text_per_record([cycle], floats, rates)
    text = own or text_per_record(history, floats, rates)
    count = cycle.records_written
    return write_seconds(Writes(new=Load(count, count * floats, count * text)), rates)
