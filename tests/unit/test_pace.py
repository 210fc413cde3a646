"""The pace of requests: gaps, signs of load, recovery; every instant is given, no clock is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.chroma.pace import (
    CREDIT_SECONDS,
    FIRST_ROWS,
    FLOOR_SHARE,
    LEAST_ROWS,
    LONGEST_GAP_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    PAGE_SECONDS,
    Ended,
    Pace,
)
from tests.support.properties import examples

STANDING = 0.5
PAGE = 4_000_000
PATH = "/collections/1/get"
REFUSED = Ended(0.0, answered=False, refused=True)


@dataclass
class Server:
    """A server that is asked at a pace, one request after another, on a clock of its own."""

    pace: Pace
    now: float = 1000.0
    begun: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0

    def ask(self, seconds: float = 0.1, *, path: str = PATH, size: int = PAGE) -> float:
        """Wait for the turn and have an answer after so many seconds; returns the wait."""
        waited = self.wait(path)
        begun = self.pace.begin(self.now, path, large=path.endswith("/get"))
        self.begun.append(self.now)
        self.now += seconds
        self.busy_seconds += seconds
        self.pace.end(begun, self.now, Ended(seconds, size))
        return waited

    def ask_two(self, seconds: float) -> bool:
        """Have two answers at the same time; returns whether both were allowed at once."""
        self.wait(PATH)
        first = self.pace.begin(self.now, PATH, large=True)
        beside = self.pace.delay(self.now, PATH, large=True) == 0
        second = self.pace.begin(self.now, PATH, large=True) if beside else None
        self.now += seconds
        for begun in (first, second):
            if begun is not None:
                self.pace.end(begun, self.now, Ended(seconds, PAGE))
        return beside

    def refuse(self, retry_after: float | None = None) -> None:
        """Refuse one request."""
        self.wait(PATH)
        begun = self.pace.begin(self.now, PATH, large=True)
        ended = Ended(0.0, answered=False, refused=True, retry_after=retry_after)
        self.pace.end(begun, self.now, ended)

    def wait(self, path: str) -> float:
        """Wait for the turn; returns how long."""
        waited = self.pace.delay(self.now, path, large=path.endswith("/get"))
        self.now += waited
        assert self.pace.delay(self.now, path, large=path.endswith("/get")) <= 1e-6
        return waited


def small(server: Server) -> None:
    """A short request, which shows how long the network takes."""
    server.ask(0.001, path="/count", size=2)


@pytest.fixture
def server() -> Server:
    """A server behind the default pace of a primary."""
    made = Server(Pace(STANDING))
    small(made)
    return made


# ---- the standing limit ----------------------------------------------------------------------


def test_a_few_seconds_are_read_at_full_speed(server: Server) -> None:
    """Nothing waits while there is credit."""
    assert [server.ask() for _ in range(19)] == [0.0] * 19
    assert server.pace.reason(server.now) == ""


def test_a_long_read_takes_its_share_of_the_time(server: Server) -> None:
    """The credit, and then the share, whatever size the pages have."""
    began = server.now
    for n in range(600):
        server.ask(0.02 * (1 + n % 10), size=PAGE * (1 + n % 10) // 5)
    spent = server.now - began
    assert server.busy_seconds <= CREDIT_SECONDS + STANDING * spent + 1
    assert server.busy_seconds >= 0.8 * STANDING * spent
    assert "0.5 of its time" in server.pace.reason(server.now)


def test_pause_refills_the_credit_only_to_its_limit(server: Server) -> None:
    """After a quiet hour, the credit is what it was."""
    for _ in range(100):
        server.ask()
    server.now += 3600
    waits = [server.ask() for _ in range(100)]
    assert sum(wait == 0 for wait in waits) == pytest.approx(10 * CREDIT_SECONDS * 2, abs=3)


def test_short_requests_never_wait_for_the_share(server: Server) -> None:
    """A count or a listing harms nobody."""
    for _ in range(100):
        server.ask()
    assert server.pace.delay(server.now, "/count", large=False) == 0


def test_small_answers_cost_nothing(server: Server) -> None:
    """Reads of small collections go on at full speed, however slow the network is."""
    assert [server.ask(0.5, size=2000) for _ in range(300)] == [0.0] * 300


def test_the_network_costs_nothing() -> None:
    """A distant server with free processors is not taken for a busy one."""
    server = Server(Pace(STANDING))
    server.ask(0.3, path="/count", size=2)
    waits = [server.ask(0.301) for _ in range(500)]
    assert sum(waits) == 0


def test_large_reads_are_alone_when_the_credit_is_low(server: Server) -> None:
    """Two at once would double what a query waits."""
    for _ in range(100):
        server.ask()
    assert not server.ask_two(0.1)


def page(server: Server, rows: int, *, each: float = 0.0001, fixed: float = 0.003) -> None:
    """Read so many records."""
    server.wait(PATH)
    begun = server.pace.begin(server.now, PATH, large=True)
    seconds = fixed + rows * each
    server.now += seconds
    server.pace.end(begun, server.now, Ended(seconds, 4000 * rows, rows))


def test_reads_are_whole_while_there_is_credit(server: Server) -> None:
    """A small collection is read in few requests."""
    assert server.pace.rows_at_once(server.now, PATH) is None
    page(server, 1000)
    assert server.pace.rows_at_once(server.now, PATH) is None


@pytest.mark.parametrize("each", [0.00002, 0.0001, 0.0005, 0.01])
def test_reads_become_so_small_that_each_takes_a_moment(server: Server, each: float) -> None:
    """The fixed cost of a read included; but never less than a few records."""
    for _ in range(100):
        page(server, server.pace.rows_at_once(server.now, PATH) or 2000, each=each)
    rows = server.pace.rows_at_once(server.now, PATH)
    assert rows is not None
    if each < 0.001:
        assert 0.003 + rows * each == pytest.approx(PAGE_SECONDS, rel=0.1)
    else:
        assert rows == LEAST_ROWS


def test_first_reads_of_a_collection_are_small_when_there_is_no_credit(server: Server) -> None:
    """Nothing is known about the size of its records."""
    for _ in range(100):
        page(server, 1000)
    assert server.pace.rows_at_once(server.now, "/collections/2/get") == FIRST_ROWS


def test_reads_are_larger_where_few_requests_are_allowed(server: Server) -> None:
    """Then the share of the time bounds them, and not the moment."""
    server.pace.spacing.allow(5.0, math.inf)
    for _ in range(100):
        page(server, server.pace.rows_at_once(server.now, PATH) or 2000)
    rows = server.pace.rows_at_once(server.now, PATH)
    assert rows is not None
    assert 0.003 + rows * 0.0001 == pytest.approx(STANDING / 5, rel=0.1)


def test_processes_divide_share_and_credit() -> None:
    """Four processes together have what one has alone."""
    server = Server(Pace(STANDING))
    small(server)
    server.pace.among(4)
    began = server.now
    for _ in range(200):
        server.ask()
    spent = server.now - began
    assert server.busy_seconds <= CREDIT_SECONDS / 4 + STANDING / 4 * spent + 1
    assert server.pace.share == pytest.approx(STANDING / 4)


def test_a_share_of_all_has_no_gaps() -> None:
    """100 % switches the standing limit off."""
    server = Server(Pace(1.0))
    assert [server.ask() for _ in range(300)] == [0.0] * 300


# ---- processors to spare ---------------------------------------------------------------------


def test_a_server_with_processors_to_spare_is_read_at_full_speed(server: Server) -> None:
    """Two reads at once take as long as one: the share grows until there are no gaps."""
    for _ in range(4):
        server.ask()
    for _ in range(10):
        server.ask_two(0.1)
    assert server.pace.share == 1
    assert [server.ask() for _ in range(200)] == [0.0] * 200


def test_a_server_without_them_is_not(server: Server) -> None:
    """Two reads at once take longer than one: the share stays."""
    for _ in range(4):
        server.ask()
    for _ in range(10):
        server.ask_two(0.16)
    assert server.pace.share == STANDING


def test_room_that_ends_takes_the_share_back(server: Server) -> None:
    """The server got company: two at once now slow each other down."""
    for _ in range(4):
        server.ask()
    for _ in range(10):
        server.ask_two(0.1)
    for _ in range(10):
        server.ask_two(0.14)
    assert server.pace.share == STANDING


# ---- signs of load ---------------------------------------------------------------------------


def test_slow_answers_reduce_the_share_to_the_floor_and_quiet_ones_bring_it_back(
    server: Server,
) -> None:
    """The same pages take three times as long, and later as long as before."""
    for _ in range(30):
        server.ask()
    for _ in range(30):
        server.ask(0.3)
    assert server.pace.share <= FLOOR_SHARE * 1.3
    assert "longer for the same answers" in server.pace.reason(server.now)
    for _ in range(30):
        server.ask()
    assert server.pace.share == STANDING
    assert "longer" not in server.pace.reason(server.now)


def test_large_pages_are_not_mistaken_for_load(server: Server) -> None:
    """Their time is judged by their size."""
    for _ in range(20):
        server.ask()
    for _ in range(20):
        server.ask(0.8, size=8 * PAGE)
    assert server.pace.share == STANDING


def test_another_collection_is_not_mistaken_for_load(server: Server) -> None:
    """Its records may need more time for each byte."""
    for _ in range(20):
        server.ask()
    for _ in range(20):
        server.ask(0.9, path="/collections/2/get")
    assert server.pace.share == STANDING


def test_a_single_slow_answer_changes_nothing(server: Server) -> None:
    """Only what lasts is a sign."""
    for _ in range(20):
        server.ask()
    server.ask(0.6)
    assert server.pace.share == STANDING


def test_what_stays_slow_becomes_normal(server: Server) -> None:
    """The server moved to a slower machine: after some hundred pages that is its quiet time."""
    for _ in range(20):
        server.ask()
    for _ in range(2000):
        server.ask(0.3)
    assert server.pace.share == STANDING


def test_the_replica_is_not_judged_by_its_latency() -> None:
    """Its writes take as long as its disk needs."""
    server = Server(Pace(watches=False))
    for seconds in (0.1, 2.0):
        for _ in range(30):
            assert server.ask(seconds) == 0


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [STANDING, 1.0])
def test_a_refusal_holds_every_request_for_a_while(standing: float) -> None:
    """The pause doubles with each refusal, up to its limit, and an answer ends that."""
    server = Server(Pace(standing))
    pauses = []
    for _ in range(10):
        server.refuse()
        pauses.append(server.pace.delay(server.now, "/count", large=False))
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS)
    assert "fewer requests" in server.pace.reason(server.now)
    for _ in range(40):
        server.ask()
    assert server.pace.share == standing
    server.refuse()
    assert server.pace.delay(server.now, "/count", large=False) == pytest.approx(0.1)


def test_retry_after_is_obeyed_by_all_requests(server: Server) -> None:
    """Also by those of other threads, up to a minute."""
    server.refuse(7.0)
    assert server.pace.delay(server.now, "/count", large=False) == 7
    server.now += 7
    server.refuse(9999.0)
    assert server.pace.delay(server.now, "/count", large=False) == LONGEST_RETRY_AFTER_SECONDS


def test_a_refusal_ends_the_credit(server: Server) -> None:
    """Large reads have gaps at once, and the full speed comes back with the standing share."""
    server.refuse()
    waits = [server.ask() for _ in range(5)]
    assert all(wait > 0 for wait in waits[1:])


def test_a_failure_that_says_nothing_about_load_changes_nothing(server: Server) -> None:
    """A record that is not there, for example."""
    begun = server.pace.begin(server.now, PATH, large=True)
    server.pace.end(begun, server.now, Ended(0.0, answered=False))
    assert server.pace.share == STANDING
    assert server.ask() == 0


# ---- promises over all sequences -------------------------------------------------------------

events = st.lists(
    st.tuples(
        st.sampled_from(["page", "small", "slow", "refused", "two", "wait"]),
        st.floats(0.001, 3.0),
    ),
    max_size=80,
)


def play(server: Server, sequence: list[tuple[str, float]]) -> float:
    """Play a sequence; returns the longest wait in it."""
    longest = 0.0
    for kind, seconds in sequence:
        match kind:
            case "page":
                longest = max(longest, server.ask(seconds / 10))
            case "small":
                longest = max(longest, server.ask(seconds / 100, path="/count", size=2))
            case "slow":
                longest = max(longest, server.ask(seconds))
            case "refused":
                server.refuse()
            case "two":
                server.ask_two(seconds / 10)
            case "wait":
                server.now += seconds
    return longest


@examples(80)
@given(events, st.integers(1, 9), st.sampled_from([0.01, STANDING, 0.5, 1.0]))
def test_every_wait_has_an_end(
    sequence: list[tuple[str, float]], processes: int, standing: float
) -> None:
    """Whatever happens, the next request begins within known time, so every cycle ends."""
    server = Server(Pace(standing))
    server.pace.among(processes)
    longest = play(server, sequence)
    assert longest <= max(LONGEST_GAP_SECONDS, LONGEST_PAUSE_SECONDS) + 1e-6


@examples(80)
@given(events)
@pytest.mark.long
def test_quiet_times_bring_back_full_speed(sequence: list[tuple[str, float]]) -> None:
    """After any trouble, normal answers restore the standing share, and a rest the credit."""
    server = Server(Pace(STANDING))
    play(server, sequence)
    for _ in range(1500):
        server.ask()
    assert server.pace.share >= STANDING
    server.now += 3600
    assert [server.ask() for _ in range(20)] == [0.0] * 20


moments = st.lists(
    st.tuples(st.floats(0, 2), st.one_of(st.none(), st.floats(0.2, 20))), min_size=1, max_size=60
)


@examples(80)
@given(moments)
def test_no_window_has_more_requests_than_allowed(
    moments: list[tuple[float, float | None]],
) -> None:
    """Also when the allowance changes: T x the largest rate + 1 in any T seconds."""
    server = Server(Pace())
    server.pace.spacing.allow(5.0, math.inf)
    rates = [(server.now, 5.0)]
    for pause, rate in moments:
        server.now += pause
        if rate is not None:
            server.pace.spacing.allow(rate, math.inf)
            rates.append((server.now, rate))
        server.ask(0.0, path="/count", size=2)
    for i, first in enumerate(server.begun):
        for count, last in enumerate(server.begun[i:], start=1):
            starts = [at for at, _ in rates if at <= first]
            since = starts[-1] if starts else -math.inf
            most = max(rate for at, rate in rates if since <= at <= last)
            assert count <= (last - first) * most + 1 + 1e-6


def test_nothing_is_sent_without_a_valid_allowance() -> None:
    """An allowance of nothing, or one that has ended, lets no request begin, also in a hurry."""
    pace = Pace()
    pace.spacing.allow(0.0, math.inf)
    assert pace.delay(0.0, "/count", large=False) == math.inf
    pace.spacing.allow(5.0, 10.0)
    assert pace.delay(9.9, "/count", large=False) == 0
    assert pace.delay(10.0, "/count", large=False, hurried=True) == math.inf
    assert "SYNC_MAX_REQUESTS_PER_SECOND" in pace.reason(10.0)


def test_a_hurried_process_waits_for_the_limit_only() -> None:
    """The gaps are lifted, so that the tasks at hand can be finished."""
    server = Server(Pace(STANDING))
    for _ in range(100):
        server.ask()
    server.refuse(30.0)
    assert server.pace.delay(server.now, PATH, large=True, hurried=True) == 0
