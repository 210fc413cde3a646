"""The state machine of alerts, under random conditions, times, outages and crashes.

The real watcher, rules and deliveries run over a store in memory. What the receiver was told is
compared with what was wrong.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chromasync.alerts.kinds import ABOUT, AlertKind
from chromasync.alerts.state import Phase, Times
from tests.alerts.world import Listener, World, beat, hold, look

Subject = tuple[AlertKind, str]
HELD = [(AlertKind.HELD, "a"), (AlertKind.HELD, "b")]
FULL = [(AlertKind.MEMORY, "c"), (AlertKind.MEMORY, "d")]
EVERYTHING: list[Subject] = [*HELD, *FULL]
LEAST_REPEAT = timedelta(seconds=Times().repeat - Times().together)
PAUSES = [1, 15, 59, 60, 61, 300, 599, 600, 601, 1200, 3600, 7200, 43_200, 86_400]
MOST_PAIRS_A_DAY = 9
"""10 minutes, 20, 40 and so on: no more ends than that fit into a day, and as many beginnings."""


class Alerts(RuleBasedStateMachine):
    """Each rule is something that happens; the invariants are those of `alerts.state`."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.ear = Listener(self.world)
        self.watcher = self.world.watcher(self.ear)
        self.wrong: set[Subject] = set()
        self.is_on: set[Subject] = set()  # as the receiver knows it
        self.told_at: dict[Subject, datetime] = {}
        self.unsure: Counter[tuple[Phase, Subject]] = Counter()
        self.seen_since: dict[Subject, datetime] = {}
        self.away_since: dict[Subject, datetime] = {}
        self.was_away: set[Subject] = set()
        self.owed: set[Subject] = set()
        self.heard = 0

    # ---- what happens -----------------------------------------------------------------------

    @rule(subject=st.sampled_from(EVERYTHING))
    def goes_wrong(self, subject: Subject) -> None:
        self.wrong.add(subject)

    @rule(subject=st.sampled_from(EVERYTHING))
    def gets_well(self, subject: Subject) -> None:
        self.wrong.discard(subject)

    @rule(seconds=st.sampled_from(PAUSES))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(is_away=st.booleans())
    def receiver(self, is_away: bool) -> None:
        self.ear.is_away = is_away

    @rule()
    def crash(self) -> None:
        """A process dies; what the receiver took after its last note may be told again."""
        (delivery,) = self.watcher._deliveries
        if delivery.taken is not None:
            due = delivery.taken
            names = {a.subject: a for a in due.alerts}
            told = [(k, n) for k, n in EVERYTHING if k is due.kind and self._subject(n) in names]
            self.unsure.update((due.phase, subject) for subject in told)
        self.watcher = self.world.watcher(self.ear)

    @rule()
    def looks(self) -> None:
        self._arrange()
        self._expect()
        look(self.watcher)

    # ---- what must be true ------------------------------------------------------------------

    @invariant()
    def what_was_told_makes_sense(self) -> None:
        """No end without a beginning, and nothing twice, unless a crash came in between."""
        for told in self.ear.told[self.heard :]:
            self.heard += 1
            assert len(set(told.names)) == len(told.names) > 0
            for name in told.names:
                self._hear(told.phase, (told.kind, name.partition(":")[0]), told.at)

    def _hear(self, phase: Phase, subject: Subject, at: datetime) -> None:
        is_sure = self.unsure[phase, subject] == 0
        if not is_sure:
            self.unsure[phase, subject] -= 1
        if phase is Phase.BEGINS:
            assert subject not in self.is_on or not is_sure, "begun twice"
            self.is_on.add(subject)
            self.owed.discard(subject)
            self.was_away.discard(subject)
        elif phase is Phase.LASTS:
            assert subject in self.is_on
            assert at - self.told_at[subject] >= LEAST_REPEAT or not is_sure, "repeated too early"
        else:
            assert subject in self.is_on or not is_sure, "ended without a beginning"
            assert subject in self.was_away or not is_sure, "ended too early"
            self.is_on.discard(subject)
        self.told_at[subject] = at

    @invariant()
    def there_is_no_storm(self) -> None:
        """However it flaps, a subject is told of a few times a day; crashes aside."""
        if self.unsure:
            return
        day_ago = self.world.now - timedelta(days=1)
        lately = Counter(
            (told.kind, told.phase, name)
            for told in self.ear.told
            if told.at > day_ago
            for name in told.names
        )
        assert max(lately.values(), default=0) <= MOST_PAIRS_A_DAY

    def teardown(self) -> None:
        """Nothing that was due is lost: in the end the receiver knows what is wrong."""
        if not hasattr(self, "world"):
            return
        self.ear.is_away = False
        for _ in range(120):
            self.world.pass_time(600)
            self.looks()
            self.what_was_told_makes_sense()
        assert self.is_on == self.wrong
        assert not self.owed

    # ---- helpers ----------------------------------------------------------------------------

    def _arrange(self) -> None:
        holds = [hold(name) for kind, name in EVERYTHING if (kind, name) in self.wrong & set(HELD)]
        beats = [
            beat(name, memory_mb=95.0, memory_limit_mb=100.0, last_heartbeat_at=self.world.now)
            for kind, name in sorted(self.wrong & set(FULL))
        ]
        self.world.changes = {"holds": tuple(holds)}
        if beats:
            self.world.changes["workers"] = tuple(beats)

    def _expect(self) -> None:
        """What a look that comes now makes due."""
        now = self.world.now
        for subject in EVERYTHING:
            left_at = self.away_since.get(subject)
            if left_at is not None and now - left_at >= timedelta(seconds=Times().quiet):
                self.was_away.add(subject)
            if subject not in self.wrong:
                self.seen_since.pop(subject, None)
                self.away_since.setdefault(subject, now)
                continue
            self.away_since.pop(subject, None)
            lasted = now - self.seen_since.setdefault(subject, now)
            is_due = lasted.total_seconds() >= ABOUT[subject[0]].after_seconds
            if is_due and subject not in self.is_on:
                self.owed.add(subject)

    def _subject(self, name: str) -> str:
        return f"id-{name} deletes" if name in "ab" else f"{name}:42:1.0:abcd1234"


TestAlerts = Alerts.TestCase
TestAlerts.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
