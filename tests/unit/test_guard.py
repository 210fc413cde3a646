"""What people approve, and servers that are refused at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chromasync.config import Settings, Target
from chromasync.errors import ChromasyncError, GuardRefusal, SettingsError
from chromasync.guard import (
    choose_holds,
    is_one_server,
    refuse_equal_urls,
    refuse_same_server,
    refuse_unseen,
)
from chromasync.model import Hold, HoldKind
from chromasync.plan.places import is_beside


def held(key: str, name: str, database: str = "", kind: HoldKind = HoldKind.DELETES) -> Hold:
    """Seven records that were shown as seven."""
    return Hold(
        key,
        name,
        kind,
        7,
        "why",
        tenant="t" if database else "",
        database=database,
        set_digest=f"{key * 4}abcd",
        shown_count=7,
    )


HELD = [
    held("1", "docs", "prod"),
    held("1", "docs", "prod", HoldKind.SURPLUS),
    held("2", "docs", "test"),
    held("3", "users", "prod"),
    held("4", "odd"),
    held("5", "twin", "prod"),
    held("6", "twin"),
]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ([], ""),
        (["users"], "3"),
        (["t/prod/users"], "3"),
        (["t/prod/docs"], "11"),
        (["2"], "2"),
        (["t/test/docs", "2", "odd"], "24"),
        (["t/prod/twin"], "5"),
        (["6"], "6"),
    ],
)
def test_an_approval_chooses_by_name_full_name_or_id(names: list[str], keys: str) -> None:
    """Every hold of the collections that are meant, once each."""
    assert "".join(hold.collection_id for hold in choose_holds(HELD, names)) == keys


@pytest.mark.parametrize(
    ("name", "candidates"), [("docs", "t/prod/docs, t/test/docs"), ("twin", "6, t/prod/twin")]
)
def test_a_name_of_several_collections_chooses_none(name: str, candidates: str) -> None:
    """It is a usage error that lists what each of them can be called instead."""
    with pytest.raises(SettingsError, match="in 2 collections named") as caught:
        choose_holds(HELD, ["users", name])
    assert caught.value.exit_code == 2
    assert caught.value.hint == f"Give the full name of one of them: {candidates}."


@pytest.mark.parametrize("name", ["user", "t/test/users", "t/prod/odd", "prod/users", ""])
def test_a_name_under_which_nothing_is_held_chooses_none(name: str) -> None:
    """A misspelt one approves nothing else, either."""
    with pytest.raises(ChromasyncError, match="Nothing is held") as caught:
        choose_holds(HELD, ["users", name])
    assert caught.value.exit_code == 4


def test_a_collection_that_was_made_anew_has_one_name_with_the_old_one() -> None:
    """Two ids in one place are one collection to whoever names it."""
    both = [held("1", "docs", "prod"), held("2", "docs", "prod", HoldKind.REPLACE)]
    assert choose_holds(both, ["docs"]) == choose_holds(both, ["t/prod/docs"]) == both


def test_a_digest_names_exactly_what_is_meant() -> None:
    """The name with the right digest chooses; with that of another set it does not."""
    assert choose_holds(HELD, ["users@3333"]) == choose_holds(HELD, ["t/prod/users@3333abcd"])
    with pytest.raises(ChromasyncError, match="is not what was shown: now it is 7"):
        choose_holds(HELD, ["users@9999"])


def test_a_name_that_has_the_mark_in_it_is_a_name() -> None:
    """A collection called `a@bcde` is found by its name, alone or with a digest behind."""
    odd = [held("7", "a@bcde", "prod")]
    assert choose_holds(odd, ["a@bcde"]) == choose_holds(odd, ["a@bcde@7777"]) == odd


@pytest.mark.parametrize("expected", [6, 8, 0])
def test_another_count_than_expected_approves_nothing(expected: int) -> None:
    """Who expects 6 did not see that there are 7 by now."""
    assert choose_holds(HELD, ["users"], 7) == [HELD[3]]
    with pytest.raises(ChromasyncError, match="Nothing was approved"):
        choose_holds(HELD, ["users"], expected)


@pytest.mark.parametrize("shown", [None, 6, 8])
def test_what_was_not_shown_as_it_is_needs_a_digest_or_a_count(shown: int | None) -> None:
    """A hold that grew since someone looked is approved by nobody who did not look again."""
    grown = replace(HELD[3], shown_count=shown)
    with pytest.raises(ChromasyncError, match="is not what was shown"):
        choose_holds([grown], ["users"])
    with pytest.raises(ChromasyncError, match="is not what was shown"):
        refuse_unseen([grown])
    assert choose_holds([grown], ["users@3333"]) == choose_holds([grown], ["users"], 7) == [grown]


def test_what_passes_by_itself_needs_not_to_be_shown() -> None:
    """A hold that waits for the next cycle may be approved along with the others."""
    refuse_unseen([replace(HELD[3], shown_count=None, unconfirmed=True)])


def test_one_server_on_both_sides_is_refused() -> None:
    """A collection id that both sides list means one server, or a copied disk."""
    refuse_same_server([], [])
    refuse_same_server({"a", "b"}, {"c"})
    with pytest.raises(GuardRefusal, match="lead to one server") as caught:
        refuse_same_server({"a", "b"}, {"b", "c"})
    assert caught.value.untouched == "Nothing was written to either side."
    assert caught.value.exit_code == 4


def test_one_url_for_both_sides_is_refused() -> None:
    """A slash at the end makes no difference; a template leads elsewhere on one server."""
    same = Settings(primary_url="http://p", replica_url="http://p/")
    refuse_equal_urls(Settings(primary_url="http://p", replica_url="http://r"))
    with pytest.raises(GuardRefusal, match=r"are the same \(http://p\)"):
        refuse_equal_urls(same)
    refuse_equal_urls(same.model_copy(update={"sync_target": Target(name="{name}-copy")}))


@pytest.mark.parametrize(
    ("given", "is_one"),
    [
        ({}, True),
        ({"primary_token": "a", "replica_token": "a"}, True),
        ({"primary_token": "a", "replica_headers": {"X-Chroma-Token": "a"}}, True),
        ({"primary_token": "a"}, False),
        ({"primary_token": "a", "replica_token": "b"}, False),
        ({"primary_headers": {"X-Tenant": "a"}, "replica_headers": {"x-tenant": "b"}}, False),
        ({"primary_bearer": "a", "replica_bearer": "b"}, False),
    ],
)
def test_one_address_is_one_server_to_one_token(given: dict[str, Any], is_one: bool) -> None:
    """Two tokens may be those of two tenants of Chroma Cloud."""
    url = "https://api.trychroma.com"
    settings = Settings.model_validate({"primary_url": url, "replica_url": url} | given)
    assert is_one_server(settings) == is_one
    copies = settings.model_copy(update={"sync_target": Target(name="{name}-copy")})
    assert is_beside(copies) == is_one
    if not is_one:
        refuse_equal_urls(settings)
