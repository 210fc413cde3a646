"""Decides when the next request to one server may begin; pure, with the time as an argument.

A primary serves an application. A large page keeps a core of it busy for 50 to 200 ms, and short
queries wait behind it. The page itself is hardly slowed by one query loop, so its latency does not
show that somebody waits. So the primary is protected in two ways: by a standing limit for large
reads, and by a reaction to signs of load.

    free        requests begin at once, as long as there is *credit*
    gentle      the credit is used up: reads ask for so few records that each takes `PAGE_SECONDS`.
                They begin one at a time, with gaps, so that they take only a *share* of the time
    strained    large reads take much longer than in quiet times: the share is halved, the credit
                is lost; each normal answer raises the share again, up to its standing value
    refused     429, 503 or no answer in time: the same, and no request begins for a pause, which
                doubles with each refusal, or lasts as long as Retry-After says
    limited     requests are spaced evenly, so that they keep to SYNC_MAX_REQUESTS_PER_SECOND

Short pages are what protects queries: a query waits for one page at most. A third of the full speed
is left (measured: 100 records in 13 ms, with gaps as long, hardly change the 95th percentile of a
query loop; pages of 1,000 records without gaps multiply it by five).

The credit is `CREDIT_SECONDS` of the server's time and refills with the share of the time that
passes. So a small collection, and the changes of a usual cycle, are read at full speed. If two
reads at once take no longer than one alone, the server has cores to spare. Then the share grows,
until there are no gaps.

What a request costs is the time until its answer begins, without the network: the fastest of the
last requests with small answers is taken for that. Those cost nothing.

What is normal is learned for each path and size of answer, separately for requests that were alone.
It is the *quiet* time for each byte: it follows faster answers quickly and slower ones slowly. So a
large page is not mistaken for load, and a server that has become slower for good is normal after
some hundred pages. A process that starts while others strain the server takes that for quiet, until
it sees a better moment; the standing limit protects the server meanwhile.

Invariants

* In any T seconds, at most `T * rate + 1` requests begin, where `rate` is the largest one allowed
  in that time. None begins without a valid allowance.
* Apart from that limit, no wait is longer than LONGEST_GAP_SECONDS and the pause of a refusal
  (LONGEST_PAUSE_SECONDS, or Retry-After). So every cycle ends.
* After a strain or refusals, normal answers bring back the standing share.

What can fail: the clock must not run backwards (it is monotonic), and a request whose end is never
reported would let no large read begin beside it; `Pacer.turn` reports it in every case.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

CREDIT_SECONDS = 2.0
"""The server's time that large reads may take before there are gaps."""

PAGE_SECONDS = 0.012
"""The server's time for one read while the pace is gentle."""

FIRST_ROWS = 100
LEAST_ROWS = 10

FLOOR_SHARE = 0.03
LONGEST_GAP_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0

LARGE_BYTES = 16 * 1024
"""A smaller answer costs nothing, and its time says little."""

STRAINED = math.log(1.8)
"""How much longer than in quiet times answers take, on average, when the server is strained."""

ROOMY, CROWDED = math.log(1.15), math.log(1.3)
"""Below and above this, two reads at once take as long as one alone, or longer."""

SOON, SLOWLY = 0.3, 0.004
"""The part of the distance by which the quiet time follows a faster and a slower answer."""

RECENT = 0.25
LEARNED = 8
ALONE_FIRST = 4
MOST_KEYS = 512
RECENT_SHORT = 8
GROWTH = 1.25
SLOW_GROWTH = 1.1
SHOWN_SECONDS = 20.0
"""For how long a wait is shown; longer than the time between two heartbeats."""

GENTLE = "gentle"
SLOW = "strained"
REFUSED = "refused"
LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended.

    Attributes:
        seconds: time until the answer began.
        size: bytes of the answer.
        rows: records that were asked for; 0 if the request was for something else.
        refused: the server asked to slow down, or did not answer in time.
        retry_after: seconds that the server asked to wait.
    """

    seconds: float
    size: int = 0
    rows: int = 0
    answered: bool = True
    refused: bool = False
    retry_after: float | None = None


class Spacing:
    """At most so many requests a second, evenly spaced; None for no limit."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._until = math.inf
        self._last = -math.inf

    def allow(self, rate: float, until: float) -> None:
        """Allow so many requests a second until then; none after that."""
        self.rate, self._until = rate, until

    def delay(self, now: float) -> float:
        """Seconds until a request may begin; infinite while none may."""
        if self.rate is None:
            return 0.0
        if now >= self._until or self.rate <= 0:
            return math.inf
        return max(0.0, self._last + 1 / self.rate - now)

    def note_begun(self, now: float) -> None:
        """Note that a request begins."""
        self._last = now


@dataclass(slots=True)
class _Quiet:
    """The quiet time for each byte of one kind of answer, as a logarithm."""

    value: float = 0.0
    count: int = 0

    def excess(self, cost: float) -> float | None:
        """How far an answer is above the quiet time; None while that is unknown. Learns it."""
        known = self.count >= LEARNED
        before = self.value
        if not self.count:
            self.value = cost
        self.value += (SOON if cost < self.value else SLOWLY) * (cost - self.value)
        self.count += 1
        return cost - before if known else None


@dataclass(slots=True)
class Begun:
    """One request that is under way."""

    at: float
    large: bool
    path: str
    area: float = field(default=0.0)


class Pace:
    """The state of one server's pace.

    Args:
        share: the standing share of the server's time for large reads; 1 for no standing limit.
        watches: whether slow answers are a sign of load.
    """

    def __init__(self, share: float = 1.0, *, watches: bool = True) -> None:
        self.spacing = Spacing()
        self._standing = share
        self._share = share
        self._watches = watches
        self._processes = 1
        self._credit = CREDIT_SECONDS
        self._refilled_at: float | None = None
        self._held_until = -math.inf
        self._pause = FIRST_PAUSE_SECONDS
        self._strain = 0.0
        self._large = 0
        self._area = 0.0
        self._area_at = 0.0
        self._quiet: OrderedDict[tuple[str, int, bool], _Quiet] = OrderedDict()
        self._row_seconds: OrderedDict[str, float] = OrderedDict()
        self._short: deque[float] = deque(maxlen=RECENT_SHORT)
        self._waited = ("", -math.inf)
        self._cause = GENTLE

    @property
    def share(self) -> float:
        """The present share of this process."""
        return 1.0 if self._share >= 1 else self._share / self._processes

    def among(self, processes: int) -> None:
        """Divide share and credit by the number of processes that use the server."""
        self._processes = max(1, processes)
        self._credit = min(self._credit, self._most_credit)

    # ---- before a request -------------------------------------------------------------------

    def delay(self, now: float, path: str, *, large: bool, hurried: bool = False) -> float:
        """Seconds until a request may begin; infinite if another one must end first.

        Args:
            large: it may have a large answer.
            hurried: only the limit counts, because the process is to end soon.
        """
        limited = self.spacing.delay(now)
        if hurried:
            return limited
        held = max(0.0, self._held_until - now)
        wait, why = max((limited, LIMITED), (held, REFUSED))
        if large:
            wait, why = max((wait, why), (self._gap(now, path), self._cause))
        if wait > 0 and math.isfinite(wait):
            self._waited = (why, now + wait)
        elif why is LIMITED and wait > 0:
            self._waited = (why, now)
        return wait

    def rows_at_once(self, now: float, path: str) -> int | None:
        """The most records that one read may ask for now; None for no limit."""
        if not self._is_gentle(now):
            return None
        seconds = PAGE_SECONDS
        if self.spacing.rate:  # few requests are allowed, so each may take longer
            seconds = max(seconds, self.share / self.spacing.rate)
        each = self._row_seconds.get(path)
        return FIRST_ROWS if each is None else max(LEAST_ROWS, int(seconds / each))

    def begin(self, now: float, path: str, *, large: bool) -> Begun:
        """Note that a request begins."""
        self.spacing.note_begun(now)
        self._pass(now)
        if large:
            self._large += 1
        return Begun(now, large, path, self._area)

    def _gap(self, now: float, path: str) -> float:
        """Seconds until a large read may begin."""
        if self._large and (self._is_gentle(now) or self._is_learning(path)):
            return math.inf
        if self._share >= 1:
            return 0.0
        self._refill(now)
        return max(0.0, -self._credit / self.share)

    def _is_gentle(self, now: float) -> bool:
        if self._share >= 1:
            return False
        self._refill(now)
        return self._credit < self._most_credit / 4

    def _is_learning(self, path: str) -> bool:
        """Whether the first large reads of this path are to be alone, to learn their time."""
        known = [q.count for (of, _, beside), q in self._quiet.items() if of == path and not beside]
        return self._watches and bool(known) and max(known) < ALONE_FIRST

    # ---- after a request --------------------------------------------------------------------

    def end(self, begun: Begun, now: float, ended: Ended) -> None:
        """Note how a request ended."""
        self._pass(now)
        span = max(now - begun.at, 1e-9)
        beside = (self._area - begun.area) / span > 1.5
        if begun.large:
            self._large -= 1
        if ended.refused:
            self._note_refused(now, ended.retry_after)
        elif ended.answered:
            self._note_answered(now, begun, ended, beside=beside)

    def _note_refused(self, now: float, retry_after: float | None) -> None:
        wait = min(retry_after or self._pause, LONGEST_RETRY_AFTER_SECONDS)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._held_until = max(self._held_until, now + wait)
        self._waited = (REFUSED, self._held_until)
        self._slow_down(REFUSED)

    def _note_answered(self, now: float, begun: Begun, ended: Ended, *, beside: bool) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        large = begun.large and ended.size >= LARGE_BYTES
        if large:
            cost = max(0.0, ended.seconds - min(self._short, default=0.0))
            self._charge(now, cost)
            if ended.rows:
                self._note_rows(begun.path, cost / ended.rows)
        else:
            self._short.append(ended.seconds)
        if large and self._watches:
            self._judge(begun.path, ended, beside=beside)
        elif begun.large:
            self._recover()

    def _note_rows(self, path: str, seconds: float) -> None:
        """Learn how long one record takes, the fixed cost of a read included."""
        before = self._row_seconds.pop(path, seconds)
        self._row_seconds[path] = before + RECENT * (seconds - before) + 1e-9
        if len(self._row_seconds) > MOST_KEYS:
            self._row_seconds.popitem(last=False)

    def _judge(self, path: str, ended: Ended, *, beside: bool) -> None:
        """Compare the time of a large read with quiet times, and adapt the share."""
        cost = math.log(max(ended.seconds, 1e-6) / ended.size)
        size = ended.size.bit_length() // 2
        alone = self._quiet.get((path, size, False))
        excess = self._quiet_of(path, size, beside=beside).excess(cost)
        if excess is not None:
            self._strain += RECENT * (excess - self._strain)
        if self._strain > STRAINED:
            self._strain /= 2  # the next step needs new evidence
            self._slow_down(SLOW)
            return
        self._recover()
        if beside and alone is not None and alone.count >= ALONE_FIRST:
            self._note_room(cost - alone.value)

    def _note_room(self, excess: float) -> None:
        """Adapt the share to whether reads slow each other down."""
        if excess <= ROOMY:
            self._share = min(1.0, self._share * SLOW_GROWTH)
        elif excess >= CROWDED and self._share > self._standing:
            self._share = max(self._standing, self._share / 2)

    def _quiet_of(self, path: str, size: int, *, beside: bool) -> _Quiet:
        key = (path, size, beside)
        quiet = self._quiet.setdefault(key, _Quiet())
        self._quiet.move_to_end(key)
        if len(self._quiet) > MOST_KEYS:
            self._quiet.popitem(last=False)
        return quiet

    # ---- share and credit -------------------------------------------------------------------

    def _slow_down(self, cause: str) -> None:
        self._cause = cause
        self._share = max(min(FLOOR_SHARE, self._standing), self._share / 2)
        self._credit = min(self._credit, 0.0)

    def _recover(self) -> None:
        if self._share < self._standing:
            self._share = min(self._standing, self._share * GROWTH)
        if self._share >= self._standing:
            self._cause = GENTLE

    @property
    def _most_credit(self) -> float:
        return CREDIT_SECONDS / self._processes

    def _refill(self, now: float) -> None:
        if self._refilled_at is not None:
            earned = (now - self._refilled_at) * self.share
            self._credit = min(self._most_credit, self._credit + earned)
        self._refilled_at = now

    def _charge(self, now: float, seconds: float) -> None:
        self._refill(now)
        self._credit = max(self._credit - seconds, -LONGEST_GAP_SECONDS * self.share)

    def _pass(self, now: float) -> None:
        """Sum up how many large reads were under way, for how long."""
        self._area += self._large * (now - self._area_at)
        self._area_at = now

    # ---- for people -------------------------------------------------------------------------

    def reason(self, now: float) -> str:
        """Why requests waited a short time ago; empty if none did."""
        why, until = self._waited
        if now > until + SHOWN_SECONDS:
            return ""
        match why:
            case "limited":
                rate = self.spacing.rate or 0.0
                return f"SYNC_MAX_REQUESTS_PER_SECOND allows this process {rate:.3g} a second"
            case "refused":
                return "it asked for fewer requests (429 or 503), or did not answer in time"
            case "strained":
                return "it takes longer for the same answers than in quiet times"
            case "gentle":
                return f"large reads take at most {self.share:.2g} of its time"
        return ""
