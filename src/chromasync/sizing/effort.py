"""How long a server takes for records, by their number, dimension and size of text; pure.

A Chroma server on one machine applies one write after another, so the times of writes add up.
Reads are waited for by several threads at the same time. A first copy reads and writes at the same
time, and waits for the slower one. All times are for the machine of the start values. `pace`
converts them: measured seconds divided by the seconds that the table gives for the same work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chromasync.sizing.table import Rates

PAGE_IDS = 100_000
"""Ids in one page of a walk."""
GROWS_FROM = 10_000
LEAST_PACE = 0.2
MOST_PACE = 20.0
LEAST_MEASURED_SECONDS = 0.05
"""A shorter measurement says nothing about the pace."""


@dataclass(frozen=True, slots=True)
class Load:
    """An amount of records.

    Attributes:
        records: their number.
        floats: numbers of all their embeddings.
        text_bytes: bytes of all their ids, documents, metadata and uris, as JSON.
    """

    records: int = 0
    floats: float = 0.0
    text_bytes: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.records + other.records,
            self.floats + other.floats,
            self.text_bytes + other.text_bytes,
        )

    def scaled_to(self, records: int) -> Load:
        """So many records of the same average size."""
        factor = records / self.records if self.records else 0.0
        return Load(records, self.floats * factor, self.text_bytes * factor)


@dataclass(frozen=True, slots=True)
class Writes:
    """What a cycle sends to the replica.

    Attributes:
        new: records that are not there yet.
        again: records that are written whole, although they are there.
        parts: records of which only documents, metadata or uris are written.
        deleted: records to delete.
    """

    new: Load = Load()
    again: Load = Load()
    parts: Load = Load()
    deleted: int = 0

    def __add__(self, other: Writes) -> Writes:
        return Writes(
            self.new + other.new,
            self.again + other.again,
            self.parts + other.parts,
            self.deleted + other.deleted,
        )

    @property
    def records(self) -> int:
        """All of them."""
        return self.new.records + self.again.records + self.parts.records + self.deleted


def read_seconds(load: Load, rates: Rates) -> float:
    """The time of one server to give these records to one thread."""
    micro = load.records * rates.read_record_us
    nano = load.floats * rates.read_float_ns + load.text_bytes * rates.read_byte_ns
    return micro / 1e6 + nano / 1e9


def write_seconds(writes: Writes, rates: Rates, *, present: int = 0) -> float:
    """The time of one server to apply these writes.

    Args:
        present: records that the collection has already; an index slows down as it grows.
    """
    seconds = _insert_seconds(writes.new, rates)
    seconds += _insert_seconds(writes.again, rates) * rates.rewrite_factor
    seconds += _insert_seconds(writes.parts, rates) * rates.update_factor
    seconds += writes.deleted * rates.delete_record_us / 1e6
    average = present + writes.new.records / 2
    return seconds * slowdown(average, rates)


def _insert_seconds(load: Load, rates: Rates) -> float:
    """The time to write new records, or as many numbers and as much text to others."""
    # the sum of the square roots, if all texts have the average length
    roots = math.sqrt(load.text_bytes * load.records)
    micro = load.records * rates.write_record_us + roots * rates.write_text_us
    return micro / 1e6 + load.floats * rates.write_float_ns / 1e9


def slowdown(records: float, rates: Rates) -> float:
    """The factor by which an index of so many records is slower than a small one."""
    return 1.0 + rates.growth_factor * max(0.0, math.log10(max(records, 1.0) / GROWS_FROM))


def walk_seconds(records: int, collections: int, rates: Rates) -> float:
    """The time to list all ids: a server sorts a whole collection for each page of it."""
    each = records / max(collections, 1)
    pages = max(1, math.ceil(each / PAGE_IDS)) * max(collections, 1)
    return records * rates.id_us / 1e6 + pages * each * rates.sort_ns / 1e9


def fixed_seconds(collections: int, rates: Rates) -> float:
    """What a cycle costs without any record."""
    return (rates.cycle_ms + collections * rates.collection_ms) / 1e3


def pace_of(measured_seconds: float, by_table_seconds: float) -> float:
    """How many times slower than the table a server is; 1 when that cannot be told."""
    if measured_seconds < LEAST_MEASURED_SECONDS or by_table_seconds <= 0:
        return 1.0
    return min(max(measured_seconds / by_table_seconds, LEAST_PACE), MOST_PACE)
