"""The process keeps within its memory: smaller batches first, then fewer threads."""

from __future__ import annotations

import pytest

from chromasync.lab.fake import FakeServer
from chromasync.memory import BATCH_BYTES, LEAST_BATCH_BYTES, MEMORY_SHARE, Memory
from chromasync.model import Side
from chromasync.reconcile.read import BYTES_PER_FLOAT, FIRST_GUESS_BYTES, RecordReader

LIMIT_MB = 500
DIMENSION = 3
MOST = MEMORY_SHARE * LIMIT_MB * 1e6


class Used:
    """The bytes that a process is told it uses."""

    def __init__(self, used: float) -> None:
        self.bytes = int(used)

    def __call__(self) -> int:
        return self.bytes


def test_without_a_limit_batches_are_full() -> None:
    """And threads are free."""
    memory = Memory(None, 64, Used(1e12))
    assert memory.batch_bytes() == BATCH_BYTES
    assert memory.may_join


def test_plenty_of_memory_changes_nothing() -> None:
    """A usual process in a usual container."""
    memory = Memory(LIMIT_MB, 2, Used(120e6))
    assert memory.batch_bytes() == BATCH_BYTES
    assert memory.may_join


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
def test_batches_shrink_before_threads_have_to_wait(threads: int) -> None:
    """The fuller the memory and the more threads share it, the smaller is each answer."""
    used = Used(0)
    memory = Memory(LIMIT_MB, threads, used)
    sizes = []
    while memory.may_join:
        sizes.append(memory.batch_bytes())
        used.bytes += 1_000_000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == LEAST_BATCH_BYTES
    assert all(s == LEAST_BATCH_BYTES or s * 8 * threads <= MOST for s in sizes)
    assert memory.batch_bytes() == LEAST_BATCH_BYTES


def test_memory_that_is_free_again_is_used_again() -> None:
    """The size follows the memory in both directions."""
    used = Used(MOST)
    memory = Memory(LIMIT_MB, 2, used)
    assert (memory.batch_bytes(), memory.may_join) == (LEAST_BATCH_BYTES, False)
    used.bytes = int(120e6)
    assert (memory.batch_bytes(), memory.may_join) == (BATCH_BYTES, True)


def test_the_process_is_measured() -> None:
    """By default, the system says how much is used."""
    assert not Memory(1).may_join
    assert Memory(1e6).may_join


def test_reads_ask_for_what_fits() -> None:
    """A short process reads few records at a time, and all of them in the end."""
    server = FakeServer(Side.PRIMARY)
    home = server.make(dimension=DIMENSION)
    ids = [f"r{n}" for n in range(300)]
    reader = RecordReader(server, memory=Memory(LIMIT_MB, 2, Used(MOST)))
    asked = [batch.asked for batch in reader.batches(home, ids)]
    assert [i for some in asked for i in some] == ids
    assert len(asked[0]) == LEAST_BATCH_BYTES // (FIRST_GUESS_BYTES + DIMENSION * BYTES_PER_FLOAT)
