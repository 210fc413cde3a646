"""Records and servers of which nobody knows where they come from are neither taken nor dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chromasync.errors import GuardRefusal
from chromasync.lab.fake import FakeServer
from chromasync.model import HoldKind, Side
from tests.support.house import House
from tests.support.ledgers import joined, names, record
from tests.unit.life import approve, kinds, named, replica_ids

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]


def test_an_approval_of_a_strangers_collection_is_for_its_records(house: House) -> None:
    """As many others in their place are held again."""
    house.fill(30)
    house.sync()
    strange = house.replica.make("strange")
    house.replica.put(strange, joined(*map(record, names(5, "one"))))
    house.sync()
    assert kinds(house) == [HoldKind.SURPLUS_COLLECTION]
    approve(house)
    house.replica.remove(strange, names(5, "one"))
    house.replica.put(strange, joined(*map(record, names(5, "two"))))
    for _ in range(2):
        house.sync()
        assert kinds(house) == [HoldKind.SURPLUS_COLLECTION]
        assert replica_ids(house, "strange") == set(names(5, "two"))
    approve(house)
    house.sync()
    assert (kinds(house), replica_ids(house, "strange")) == ([], set())


# ---- roles ---------------------------------------------------------------------------------------


def test_a_former_replica_is_no_primary(house: House) -> None:
    """Also after REPLICA_URL led to another server for a while."""
    house.fill(30)
    house.sync()
    first = house.replica
    house.replica = FakeServer(Side.REPLICA)
    house.reconnect()
    house.sync()
    house.primary, house.replica = first, house.primary
    house.reconnect()
    with pytest.raises(GuardRefusal, match="look swapped"):
        house.sync()


def test_records_of_unknown_origin_are_held_on_every_path(house: House) -> None:
    """An adopted collection whose primary gets its first records in another dimension."""
    theirs = house.replica.make("new", dimension=7)
    house.replica.put(
        theirs,
        replace(joined(*map(record, names(50, "x"))), embeddings=np.ones((50, 7), np.float32)),
    )
    house.primary.make("new")
    house.fill(30)
    for _ in range(2):
        house.sync()
    house.primary.unmake(named(house.primary, "new"))
    mine = house.primary.make("new", dimension=4)
    house.primary.put(mine, joined(*map(record, names(20, "y"))))
    for _ in range(3):
        house.sync()
        assert len(house.replica.contents(theirs).ids) == 50
