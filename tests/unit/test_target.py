"""The template of places on the replica: what it makes, what it reads back, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.config import Target, load_settings
from chromasync.errors import SettingsError
from tests.support.properties import examples

SOURCE = ("default_tenant", "hr", "people")
words = st.text("ab.-_0", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("template", "place", "claim"),
    [
        ("{tenant}/{database}/{name}", SOURCE, "default_tenant/hr"),
        (
            "team-7/{database}/{name}",
            ("team-7", "hr", "people"),
            "team-7/hr from default_tenant/hr",
        ),
        (
            "{tenant}/{tenant}.{database}/{name}-copy",
            ("default_tenant", "default_tenant.hr", "people-copy"),
            "default_tenant/default_tenant.hr/{name}-copy",
        ),
        (
            "team/all/{tenant}.{database}.{name}",
            ("team", "all", "default_tenant.hr.people"),
            "team/all/default_tenant.hr.{name} from default_tenant/hr",
        ),
    ],
)
def test_a_collection_goes_where_the_template_leads(
    template: str, place: tuple[str, str, str], claim: str
) -> None:
    """The claim names the same place, and its source if others may lead there, too."""
    target = Target.parse(template)
    assert target.place_of(*SOURCE) == place
    assert target.claim(*SOURCE[:2]) == claim
    assert str(target) == template
    assert target.is_plain is (place == SOURCE)


@examples(60)
@given(
    template=st.sampled_from(
        [
            "{tenant}/{database}/{name}",
            "x{tenant}/{tenant}.{database}-y/{database}_{name}0{tenant}",
            "cloud/{database}/0{name}",
        ]
    ),
    place=st.tuples(words, words, words),
)
def test_a_place_is_read_back(template: str, place: tuple[str, str, str]) -> None:
    """The database and the name on the primary follow from those on the replica."""
    target = Target.parse(template)
    tenant, database, name = place
    _, there, called = target.place_of(*place)
    assert target.source_of_database(tenant, there) == database
    assert target.source_of_name(tenant, database, called) == name


def test_a_name_that_the_template_cannot_have_made_leads_back_to_itself() -> None:
    """It is shown with a slash, which no name has."""
    target = Target.parse("{tenant}/{database}/{name}-copy")
    for strange in ("docs", "-copy", "docs-copy-2"):
        shown = target.source_of_name("t", "d", strange)
        assert shown == f"/{strange}"
        assert target.name_of("t", "d", shown) == strange
    assert (
        Target.parse("a{tenant}/{tenant}{database}b/{name}").source_of_database("t", "tb") is None
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{name}", "three parts"),
        ("a/b/c/{name}", "three parts"),
        ("//{name}", "its tenant has fewer than 3 characters"),
        ("{tenant}/{database}/all", "its name has no {name}"),
        ("{tenant}/{databse}/{name}", "{databse} is unknown"),
        ("{tenant}/{name}/{name}", "its database has {name}"),
        ("{database}/{database}/{name}", "its tenant has {database}"),
        ("{tenant}/{database}/{name}{name}", "a placeholder twice"),
        ("{tenant}/{database}/{name", "a character other than letters"),
        ("{tenant}/my data/{name}", "a character other than letters"),
        ("{tenant}/{database}/{name}-", "begins and ends with a letter or a digit"),
        ("{tenant}/chromasync-marks/{name}", "holds the marks"),
        ("{tenant}/{database}/{name}.chromasync-x", "its own collections"),
        ("{tenant}/copies/{name}", "SYNC_DATABASES must be set, too"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, reason: str) -> None:
    """The error names the setting, the template, the reason and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"SYNC_TARGET": template}, servers_required=False)
    words = str(caught.value)
    assert words.startswith(f"SYNC_TARGET given as a flag is {template!r} (")
    assert reason in words
    assert "allowed: TENANT/DATABASE/NAME" in words


def test_one_place_for_all_databases_needs_their_names() -> None:
    """With SYNC_DATABASES it is clear which ones are meant."""
    flags = {"SYNC_TARGET": "{tenant}/copies/{name}", "SYNC_DATABASES": "hr"}
    settings = load_settings(flags, servers_required=False)
    assert settings.sync_target == Target(database="copies")
    shown = {line.name: line.value for line in settings.effective()}
    assert shown["SYNC_TARGET"] == "{tenant}/copies/{name}"
