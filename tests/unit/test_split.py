"""Finding the bad records among many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from chromasync.errors import RequestRefused, ServerFault, ServerUnreachable
from chromasync.reconcile.split import PROBES, SINGLES_BEFORE_PROBING, Splitter


class Server:
    """Takes requests that hold none of the bad numbers."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.requests: list[list[int]] = []
        self.taken: list[int] = []

    def send(self, items: Sequence[int]) -> None:
        self.requests.append(list(items))
        for item in items:
            if item in self.bad:
                raise RequestRefused(f"no {item}", side="replica")
        self.taken += items


def test_a_request_that_goes_through_is_not_split() -> None:
    """Without a failure there is one request, with the items as given; without items none."""
    server = Server(set())
    items = range(100)
    given: list[Sequence[int]] = []
    assert Splitter(given.append).run(items) == []
    assert given[0] is items
    assert Splitter(server.send).run(items) == []
    assert Splitter(server.send).run([]) == []
    assert server.requests == [list(items)]


@pytest.mark.parametrize("bad", [0, 41, 99])
def test_one_bad_item_is_found_in_few_requests(bad: int) -> None:
    """The culprit is named with its own error, in about two requests per halving."""
    server = Server({bad})
    ((item, error),) = Splitter(server.send).run(range(100))
    assert (item, error.what) == (bad, f"no {bad}")
    assert sorted(server.taken) == [n for n in range(100) if n != bad]
    assert len(server.requests) <= 2 * 7 + 1


def test_a_bad_run_at_the_front_does_not_hide_the_good_rest() -> None:
    """Many bad items side by side at the front are blamed when the rest is taken."""
    bad = set(range(40))
    server = Server(bad)
    assert [item for item, _ in Splitter(server.send).run(range(100))] == sorted(bad)
    assert sorted(server.taken) == list(range(40, 100))


@pytest.mark.parametrize("only_good", [0, 5, 99])
def test_one_good_item_clears_the_server(only_good: int) -> None:
    """Once any item was taken alone, all others are tried and blamed one by one."""
    server = Server(set(range(100)) - {only_good})
    blamed = [item for item, _ in Splitter(server.send).run(range(100))]
    assert server.taken == [only_good]
    assert blamed == [n for n in range(100) if n != only_good]


@pytest.mark.parametrize("count", [9, 10, 100, 3000])
def test_a_server_that_takes_nothing_is_to_blame_itself(count: int) -> None:
    """When all singles fail the error is raised, after a number of requests that has a bound."""
    server = Server(set(range(count)))
    with pytest.raises(RequestRefused, match="no "):
        Splitter(server.send).run(range(count))
    singles = [request for request in server.requests if len(request) == 1]
    assert len(singles) <= SINGLES_BEFORE_PROBING + 1 + PROBES
    assert len(server.requests) <= len(singles) + 2 * 12


def test_a_few_items_are_blamed_even_when_all_are_bad() -> None:
    """So few failures prove nothing about the server, so the items are named."""
    server = Server(set(range(SINGLES_BEFORE_PROBING)))
    assert len(Splitter(server.send).run(range(SINGLES_BEFORE_PROBING))) == SINGLES_BEFORE_PROBING


@pytest.mark.parametrize("failure", [RequestRefused, ServerFault])
def test_both_ways_of_not_taking_content_are_split(
    failure: type[RequestRefused | ServerFault],
) -> None:
    """A refusal (4xx) and a fault that repeats (500) are looked into alike."""

    def send(items: Sequence[str]) -> None:
        if "bad" in items:
            raise failure("words", side="primary")

    ((item, error),) = Splitter(send).run(["a", "bad", "c"])
    assert item == "bad"
    assert type(error) is failure


def test_any_other_error_ends_the_run() -> None:
    """An unreachable server is nobody's fault here and goes to the caller at once."""
    sent: list[object] = []

    def send(items: Sequence[int]) -> None:
        sent.append(items)
        raise ServerUnreachable("down", side="replica")

    run: Callable[[Sequence[int]], object] = Splitter(send).run
    with pytest.raises(ServerUnreachable):
        run(range(10))
    assert len(sent) == 1


def test_a_refusal_for_the_number_of_items_is_followed_by_requests_that_fit() -> None:
    """When a refusal shows the limit, no later request has more items than that."""
    limits = [1000]
    sizes: list[int] = []

    def send(items: Sequence[int]) -> None:
        sizes.append(len(items))
        if len(items) > 300:
            limits.append(300)
            raise RequestRefused("too many", side="replica")

    assert Splitter(send, fits=lambda: limits[-1]).run(range(1000)) == []
    assert sizes == [1000, 300, 300, 300, 100]
