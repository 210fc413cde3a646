"""The brake: when it asks, when it stops the writes, and when it lets them go again."""

from __future__ import annotations

import pytest

from chromasync.chroma import brake as braking
from chromasync.chroma.brake import FAILURES, PAUSE_SECONDS, Brake
from chromasync.errors import (
    AccessRefused,
    QuotaExceeded,
    RequestRefused,
    ServerError,
    ServerFault,
    ServerUnreachable,
    TooLarge,
    WritesRefused,
)


class Server:
    """Counts how often it is asked; takes harmless writes or fails at them."""

    def __init__(self, refusal: ServerError | None = None, *, known: bool = True) -> None:
        self.refusal = refusal
        self.known = known
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return self.known


@pytest.fixture
def brake() -> Brake:
    """One that is free."""
    return Brake("replica at http://r", "replica")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that it looks at; its one number may be changed."""
    now = [1000.0]
    monkeypatch.setattr(braking, "monotonic", lambda: now[0])
    return now


def error(kind: type[ServerError], said: str = "boom") -> ServerError:
    return kind("It failed.", side="replica", status=500, said=said)


def test_failures_of_records_stop_nothing(brake: Brake) -> None:
    """A harmless write is taken, as often as it is asked."""
    server = Server()
    for _ in range(10 * FAILURES):
        brake.check(server)
        brake.refused(error(RequestRefused), 1, server)
    assert server.asked == 10
    assert not brake.in_doubt


@pytest.mark.parametrize("kind", [RequestRefused, ServerFault, AccessRefused])
def test_a_server_that_takes_nothing_is_spared(
    brake: Brake, clock: list[float], kind: type[ServerError]
) -> None:
    """It is asked once for each pause, and all goes on when the harmless write is taken."""
    server = Server(error(kind))
    for _ in range(FAILURES - 1):
        brake.refused(error(kind), 1, server)
        assert brake.in_doubt
    with pytest.raises(WritesRefused, match=r'takes no writes: "boom" \(status 500\)'):
        brake.refused(error(kind), 1, server)
    for _ in range(5):
        with pytest.raises(WritesRefused):
            brake.check(server)
    assert server.asked == 1
    clock[0] += PAUSE_SECONDS
    with pytest.raises(WritesRefused):
        brake.check(server)
    assert server.asked == 2
    clock[0] += PAUSE_SECONDS
    with pytest.raises(WritesRefused):
        brake.check(server)
    assert server.asked == 2, "the pause is longer now"
    clock[0] += PAUSE_SECONDS
    server.refusal = None
    brake.check(server)
    assert not brake.in_doubt


@pytest.mark.parametrize(
    "said", ["database or disk is full", "attempt to write a readonly database"]
)
def test_what_the_server_says_of_itself_needs_no_question(brake: Brake, said: str) -> None:
    """The first failure is enough."""
    server = Server()
    with pytest.raises(WritesRefused, match=said):
        brake.refused(error(ServerFault, said), 3, server)
    assert server.asked == 0


@pytest.mark.parametrize("kind", [TooLarge, QuotaExceeded, ServerUnreachable])
def test_other_errors_are_none_of_its_business(brake: Brake, kind: type[ServerError]) -> None:
    """They have ways of their own."""
    server = Server()
    for _ in range(2 * FAILURES):
        brake.refused(error(kind), 1, server)
    assert (server.asked, brake.in_doubt) == (0, False)


def test_where_nothing_can_be_asked_the_kind_of_error_decides(brake: Brake) -> None:
    """What speaks of its content may be about that; a fault may not."""
    server = Server(known=False)
    for _ in range(3 * FAILURES):
        brake.refused(error(RequestRefused), 1, server)
    with pytest.raises(WritesRefused):
        brake.refused(error(ServerFault), FAILURES, server)


def test_where_nothing_can_be_asked_any_more_the_write_at_hand_is_the_question(
    brake: Brake, clock: list[float]
) -> None:
    """The collection that was asked is gone; a write that is taken ends it."""
    server = Server(error(ServerFault))
    with pytest.raises(WritesRefused):
        brake.refused(error(ServerFault), FAILURES, server)
    clock[0] += PAUSE_SECONDS
    server.refusal, server.known = None, False
    brake.check(server)
    assert brake.in_doubt
    brake.taken()
    brake.check(server)
    assert not brake.in_doubt


def test_words_in_a_refusal_of_content_may_be_those_of_a_record(brake: Brake) -> None:
    """A server may quote a key or an id, whatever it is called."""
    server = Server()
    brake.refused(error(RequestRefused, "Invalid metadata key: 'no space left'"), 1, server)
    assert server.asked == 0


def test_a_server_that_went_away_meanwhile_says_so(brake: Brake) -> None:
    """The question may fail for another reason, and that reason is told."""
    away = error(ServerUnreachable)
    with pytest.raises(ServerUnreachable) as caught:
        brake.refused(error(ServerFault), FAILURES, Server(away))
    assert caught.value is away
