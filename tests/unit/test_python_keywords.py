"""Settings as keywords: names, types, refusals, and what else counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest

from chromasync.config import Origin, Settings
from chromasync.config.from_keywords import LOGS, SHORT, keyword_fields, settings_from
from chromasync.config.reference import settings_table
from chromasync.errors import SettingsError
from chromasync.keywords import SettingKeywords
from chromasync.model import Side
from tests.unit.configs import ONE, TWO
from tools.keywords import module_text

pytestmark = pytest.mark.usefixtures("two_servers_alone")
MODULE = Path(__file__).parents[2] / "src" / "chromasync" / "keywords.py"


def taken(*, environment: bool = False, **keywords: Any) -> Settings:
    """The settings of a call with these keywords."""
    return settings_from(ONE, TWO, None, keywords, environment=environment)


def refused(**keywords: Any) -> str:
    """What is said about keywords that are not accepted."""
    with pytest.raises(SettingsError) as caught:
        taken(**keywords)
    assert caught.value.untouched == "Nothing was started."
    return str(caught.value)


def test_the_types_of_keywords_are_those_of_the_settings() -> None:
    """The module of the keywords is what `make docs` would write."""
    assert MODULE.read_text(encoding="utf-8") == module_text(), "run `make docs`"


def test_every_setting_can_be_given() -> None:
    """Each setting is a keyword, one of the three short arguments, or about logs."""
    names = {info.name.lower() for info in settings_table()}
    fields = keyword_fields()
    assert {*fields.values(), *SHORT, *LOGS} == names
    assert get_type_hints(SettingKeywords).keys() == fields.keys()
    own = {"environment", "full", "adopt", "rebuild", "progress"}
    own |= {"queries", "repair", "sample_percent", "expect", "what"}
    assert not set(fields) & {*SHORT.values(), *own}


def test_values_are_python_values() -> None:
    """Numbers, lists, mappings, paths and words arrive as they would from a variable."""
    settings = taken(
        chunk_size=7,
        exclude=["tmp-*", "x,y"],
        include="a*, b*",
        max_delete="5%",
        scrub_budget="50%",
        mark=False,
        drift="hold",
        keep_dropped=60,
        data_dir=Path("somewhere"),
        replica_headers={"x-team": "search"},
        primary_token="hush",
    )
    assert (settings.sync_chunk_size, settings.sync_mark) == (7, False)
    assert settings.sync_exclude == ("tmp-*", "x,y")
    assert settings.sync_include == ("a*", "b*")
    assert (str(settings.sync_max_delete), settings.sync_scrub_budget) == ("5%", 0.5)
    assert (settings.sync_drift, settings.sync_keep_dropped) == ("hold", 60)
    assert settings.sync_data_dir == Path("somewhere")
    assert settings.server(Side.PRIMARY).headers == {"x-chroma-token": "hush"}
    assert settings.server(Side.REPLICA).headers == {"x-team": "search"}
    assert settings.origin("SYNC_CHUNK_SIZE") is Origin.KEYWORD
    assert settings.origin("SYNC_INTERVAL") is Origin.DEFAULT


def test_none_means_not_given() -> None:
    """A wrapper may pass its own defaults on."""
    assert taken(chunk_size=None).sync_chunk_size == 1000


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        (None, "sqlite:///chromasync-data/chromasync.db"),
        ("state.db", "sqlite:///state.db"),
        (Path("/data/state.db"), "sqlite:////data/state.db"),
        ("sqlite:///state.db", "sqlite:///state.db"),
        ("postgresql://sync:hush@db/sync", "postgresql://db/sync"),
    ],
)
def test_the_state_store_is_a_file_or_a_url(store: str | Path | None, shown: str) -> None:
    """Whatever is no URL is a SQLite file; without it, the command line's own."""
    assert settings_from(ONE, TWO, store, {}, environment=False).store.shown == shown


def test_a_path_of_a_server_becomes_absolute(tmp_path: Path) -> None:
    """A path object is handed on as an absolute path, and a text as it is."""
    with pytest.raises(SettingsError, match="PRIMARY_URL given as a keyword"):
        settings_from("wherever", TWO, None, {}, environment=False)
    from chromasync.config.from_keywords import server_place

    assert server_place(Path("chroma")) == str(tmp_path / "chroma")
    assert server_place("./chroma") == "./chroma"


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("chunksize", "There is no keyword chunksize. Did you mean chunk_size?"),
        ("SYNC_CHUNK_SIZE", "There is no keyword SYNC_CHUNK_SIZE. Did you mean chunk_size?"),
        ("sync_interval", "There is no keyword sync_interval. Did you mean interval?"),
        ("database_url", "There is no keyword database_url. Did you mean store?"),
        ("primary_url", "There is no keyword primary_url. Did you mean primary?"),
        ("log_level", "There is no keyword log_level: log lines go where this program sends them."),
        ("zzz", "There is no keyword zzz."),
    ],
)
def test_an_unknown_keyword_is_refused(name: str, advice: str) -> None:
    """The error names it, and the keyword that was probably meant."""
    assert refused(**{name: 1}).startswith(advice + " Nothing")


def test_a_wrong_value_is_refused_like_that_of_a_variable() -> None:
    """The error names the setting, the value and what is allowed; secrets stay hidden."""
    said = refused(chunk_size=0, http_token="hush")
    assert "SYNC_CHUNK_SIZE given as a keyword is 0; allowed: a whole number from 1" in said
    assert "SYNC_HTTP_TOKEN given as a keyword is not valid, its value stays hidden" in said
    assert "hush" not in said


@pytest.mark.parametrize(
    ("primary", "replica", "missing"),
    [
        (None, None, "Missing arguments: primary and replica."),
        (ONE, None, "Missing argument: replica."),
        ("", TWO, "Missing argument: primary."),
    ],
)
def test_a_missing_server_is_refused(
    primary: str | None, replica: str | None, missing: str
) -> None:
    """The error names what is missing, in the words of the call."""
    with pytest.raises(SettingsError) as caught:
        settings_from(primary, replica, None, {}, environment=False)
    assert caught.value.what == missing
    assert "environment=True" in caught.value.hint


# ---- the environment -------------------------------------------------------------------------


def test_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables nor a settings file change a call, not even wrong ones."""
    monkeypatch.setenv("SYNC_CHUNK_SIZE", "5")
    monkeypatch.setenv("SYNC_NONSENSE", "5")
    monkeypatch.setenv("PORT", "8080")
    Path("chromasync.toml").write_text("SYNC_WORKERS = 9\nwrong = 1", encoding="utf-8")
    settings = taken()
    assert (settings.sync_chunk_size, settings.sync_workers) == (1000, 2)
    assert settings.sync_http_port is None


def test_the_environment_counts_where_a_call_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then variables and file are read as on the command line, and keywords are the strongest."""
    monkeypatch.setenv("SYNC_CHUNK_SIZE", "5")
    monkeypatch.setenv("SYNC_INTERVAL", "7")
    Path("chromasync.toml").write_text("SYNC_WORKERS = 9", encoding="utf-8")
    settings = settings_from(None, None, None, {"interval": 60}, environment=True)
    assert (settings.primary_url, settings.sync_chunk_size) == (ONE, 5)
    assert (settings.sync_workers, settings.sync_interval) == (9, 60)
