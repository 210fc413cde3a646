"""Which collections are shown, and in which order."""

from __future__ import annotations

import pytest

from chromasync.model import MirrorStatus
from chromasync.web.choice import ATTENTION, PER_PAGE, SORTS, Choice, choose
from tests.web import scenes

MANY = scenes.crowded().collections


def test_1500_collections_are_shown_in_pages() -> None:
    """Each collection is on exactly one page, in the order of the names."""
    pages = [choose(MANY, Choice(page=page)) for page in range(1, 31)]
    names = [c.name for page in pages for c in page.rows]
    assert len(names) == len(set(names)) == 1500
    assert names == sorted(names)
    assert {len(page.rows) for page in pages} == {PER_PAGE}
    assert (pages[0].pages, pages[0].found, pages[0].total) == (30, 1500, 1500)


def test_a_page_that_is_not_there_is_the_nearest_one() -> None:
    """A choice that finds fewer pages than before still shows something."""
    assert choose(MANY, Choice(page=999)).page == 30
    assert choose(MANY[:3], Choice(page=2)).page == 1
    assert choose((), Choice()).rows == []


def test_a_part_of_the_name_and_the_state_choose() -> None:
    """Upper and lower case do not matter; `attention` is all that is not identical."""
    assert {c.name for c in choose(MANY, Choice(text="USERS-000")).rows} == {"users-0009"}
    failed = choose(MANY, Choice(state=MirrorStatus.ERROR.value))
    assert failed.found == 4
    assert choose(MANY, Choice(state=ATTENTION)).rows == failed.rows
    assert choose(MANY, Choice(text="default_database/users")).found > 100
    assert choose(MANY, Choice(text="no such thing")).found == 0


@pytest.mark.parametrize("sort", SORTS)
def test_every_column_sorts_both_ways(sort: str) -> None:
    """Backwards is the reverse order of values, unknown ones at one end."""
    unknown = scenes.copying().collections
    forwards = [SORTS[sort](c) for c in choose(unknown, Choice(sort=sort)).rows]
    backwards = [SORTS[sort](c) for c in choose(unknown, Choice(sort=sort, backwards=True)).rows]
    assert forwards == sorted(forwards)
    assert backwards == sorted(forwards, reverse=True)


def test_nonsense_in_the_query_counts_as_not_given() -> None:
    """Whatever stands in the address, the page shows something."""
    assert Choice.read({"sort": "no", "state": "no", "page": "-1", "backwards": "x"}) == Choice()
    for page in ("0", "x", "9" * 30, "²"):
        assert choose(MANY[:9], Choice.read({"page": page})).page == 1
    assert len(Choice.read({"text": "x" * 9999}).text) == 200


def test_a_choice_is_its_own_address() -> None:
    """What a link leads to is read as what it was made from; a heading turns the order round."""
    choice = Choice("a&b=é", "error", "lag", backwards=True, page=3)
    pairs = dict(part.split("=") for part in choice.query().split("&"))
    assert set(pairs) == {"text", "state", "sort", "backwards", "page"}
    assert Choice().query() == ""
    assert "backwards=1" in Choice(sort="lag").sorted_by("lag")
    assert "backwards" not in choice.sorted_by("lag")
    assert "page" not in choice.sorted_by("name")
