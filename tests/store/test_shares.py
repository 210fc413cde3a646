"""Processes share the limit of requests, and their shares never exceed it in sum."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from chromasync.store import SqlStore
from chromasync.store.schema import Later
from chromasync.store.schema_service import request_shares
from tests.store.conftest import Opener
from tests.store.samples import arrange, look

LIMIT = 12.0


def granted_in_all(store: SqlStore) -> float:
    """The sum of all shares in the store."""
    ((total,),) = look(store, select(func.coalesce(func.sum(request_shares.c.per_second), 0.0)))
    return float(total)


def test_a_process_alone_has_all(store: SqlStore) -> None:
    """And it keeps it when it asks again."""
    assert store.take_share("a", LIMIT, 0.0, 60) == LIMIT
    assert store.take_share("a", LIMIT, LIMIT, 60) == LIMIT


def test_a_newcomer_waits_until_the_others_give_up_a_part(opener: Opener) -> None:
    """A part is free only when its owner says that it keeps to less."""
    ours, theirs = opener(), opener()
    assert ours.take_share("a", LIMIT, 0.0, 60) == LIMIT
    assert theirs.take_share("b", LIMIT, 0.0, 60) == 0
    assert ours.take_share("a", LIMIT, LIMIT, 60) == LIMIT / 2
    assert theirs.take_share("b", LIMIT, 0.0, 60) == 0
    assert ours.take_share("a", LIMIT, LIMIT / 2, 60) == LIMIT / 2
    assert theirs.take_share("b", LIMIT, 0.0, 60) == LIMIT / 2
    theirs.give_up_share("b")
    assert ours.take_share("a", LIMIT, LIMIT / 2, 60) == LIMIT


@pytest.mark.parametrize("ends_in", [-1, 3600])
def test_the_share_of_a_dead_process_goes_to_the_others(store: SqlStore, ends_in: float) -> None:
    """When it has expired, or when the clock stepped back under it."""
    store.take_share("dead", LIMIT, 0.0, 60)
    arrange(store, update(request_shares).values(expires_at=Later(ends_in)))
    assert store.take_share("a", LIMIT, 0.0, 60) == LIMIT


def test_an_expired_process_cannot_claim_its_former_rate(store: SqlStore) -> None:
    """It may come back from a freeze while others have its share."""
    store.take_share("frozen", LIMIT, 0.0, 60)
    arrange(store, update(request_shares).values(expires_at=Later(-1)))
    store.take_share("a", LIMIT, 0.0, 60)
    assert store.take_share("frozen", LIMIT, LIMIT, 60) == 0
    assert granted_in_all(store) <= LIMIT


def test_the_sum_never_exceeds_the_limit(store: SqlStore) -> None:
    """In any order of starts, questions, ends and deaths; and all get their part in the end."""
    chance = random.Random(5)
    using: dict[str, float] = {}
    for _ in range(150):
        name = chance.choice("abcde")
        match chance.choice(["ask", "ask", "ask", "end", "die"]):
            case "ask":
                using[name] = store.take_share(name, LIMIT, using.get(name, 0.0), 60)
            case "end" if name in using:
                store.give_up_share(name)
                del using[name]
            case "die" if name in using:
                mine = request_shares.c.holder == name
                arrange(store, update(request_shares).where(mine).values(expires_at=Later(-1)))
                del using[name]
        assert sum(using.values()) <= granted_in_all(store) + 1e-9
        assert granted_in_all(store) <= LIMIT + 1e-9
    for _ in range(4):
        using = {name: store.take_share(name, LIMIT, using.get(name, 0.0), 60) for name in "abcde"}
    assert using == pytest.approx(dict.fromkeys("abcde", LIMIT / 5))


def test_questions_at_the_same_time_do_not_exceed_it(opener: Opener) -> None:
    """Eight processes ask at once."""
    stores = [opener() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            granted = list(
                threads.map(
                    lambda n: stores[n].take_share(f"p{n}", LIMIT, 0.0, 60), range(len(stores))
                )
            )
            assert sum(granted) <= LIMIT + 1e-9
            assert granted_in_all(stores[0]) <= LIMIT + 1e-9
