"""How servers are reached, and what of the settings is shown: no secret, anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from chromasync.config import (
    Settings,
    load_settings,
)
from chromasync.errors import SettingsError
from chromasync.model import Side
from tests.unit.configs import refusal

pytestmark = pytest.mark.usefixtures("two_servers_alone")


# ---- servers and secrets ---------------------------------------------------------------------


def test_a_server_gets_headers_token_and_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All settings of a side come together in one value."""
    ca, cert = tmp_path / "ca.pem", tmp_path / "cert.pem"
    ca.touch()
    cert.touch()
    for name, value in {
        "HEADERS": '{"x-team": "search"}',
        "TOKEN": "t0ken",
        "CA_FILE": str(ca),
        "CLIENT_CERT": str(cert),
        "TLS_VERIFY": "no",
    }.items():
        monkeypatch.setenv(f"REPLICA_{name}", value)
    server = load_settings().server(Side.REPLICA)
    assert server.headers == {"x-team": "search", "x-chroma-token": "t0ken"}
    assert (server.ca_file, server.client_cert, server.tls_verify) == (ca, cert, False)
    assert server.timeout_seconds == 60
    assert "t0ken" not in repr(server)
    assert load_settings().server(Side.PRIMARY).headers == {}


def test_a_password_in_a_url_becomes_a_hidden_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """`user:password@` leaves the URL and is sent as Authorization."""
    monkeypatch.setenv("PRIMARY_URL", "https://user:s%40fe@one/prefix/")
    server = load_settings().server(Side.PRIMARY)
    assert server.url == "https://one/prefix"
    assert server.headers == {"Authorization": "Basic dXNlcjpzQGZl"}


def test_a_bearer_token_is_sent_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes the Authorization header of its side alone, beside token and other headers."""
    monkeypatch.setenv("REPLICA_BEARER", "b3arer")
    monkeypatch.setenv("REPLICA_TOKEN", "t0ken")
    monkeypatch.setenv("REPLICA_HEADERS", '{"x-team": "search"}')
    settings = load_settings()
    assert settings.server(Side.PRIMARY).headers == {}
    assert settings.server(Side.REPLICA).headers == {
        "x-team": "search",
        "x-chroma-token": "t0ken",
        "Authorization": "Bearer b3arer",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"PRIMARY_URL": "http://user:hush@one:8000"},
        {"PRIMARY_HEADERS": '{"authorization": "Basic hush"}'},
    ],
)
def test_a_bearer_token_beside_another_authorization_is_refused(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    """Only one of them could be sent, so all places are named, and none of their values."""
    for name, value in {"PRIMARY_BEARER": "hush", **other}.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    with pytest.raises(SettingsError) as caught:
        settings.server(Side.PRIMARY)
    text = str(caught.value)
    assert [name for name in ("BEARER", "HEADERS", "URL") if f"PRIMARY_{name}" not in text] == []
    assert "hush" not in text
    assert settings.server(Side.REPLICA).headers == {}


SECRETS = {
    "PRIMARY_URL": "http://user:hush1@one:8000",
    "PRIMARY_TOKEN": "hush2",
    "REPLICA_BEARER": "hush8",
    "REPLICA_HEADERS": '{"authorization": "Bearer hush3"}',
    "DATABASE_URL": "postgres://me:hush4@db/state",
    "SYNC_HTTP_TOKEN": "hush5-and-some-more",
    "SYNC_WEBHOOK_URL": "https://hooks.example.com/hush6?x=hush7",
    "SYNC_ALERT_URLS": "mailto://me:hush9@one, json://two/hush10?to=a,b",
}


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret is in the repr, the JSON or the table of effective settings."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    shown = repr(settings) + str(settings) + settings.model_dump_json() + str(settings.effective())
    assert "hush" not in shown
    assert settings.store.url == "postgresql://me:hush4@db/state"
    assert settings.store.shown == "postgresql://db/state"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db:5432/state?user=u&password=hush", "postgresql://db:5432/state"),
        ("postgresql://db/state?sslmode=require&sslpassword=hush", "postgresql://db/state"),
        ("postgresql+psycopg://u:hush@[::1]:5432/state", "postgresql://[::1]:5432/state"),
        ("postgresql://u:hu?sh@one:1,two:2/state", "postgresql://one:1,two:2/state"),
        (
            "postgresql:///state?host=/run/pg&password=hush&port=5433",
            "postgresql:///state?host=/run/pg&port=5433",
        ),
        ("postgresql://u:hush/hush@db/state", "postgresql://***"),
        ("postgresql://u:12/hush@db:1/state", "postgresql://***"),
        ("postgresql://u:hush@hush@db/state", "postgresql://***"),
        ("postgresql://u:hush/state", "postgresql://***"),
        ("postgresql://db/state?user=u@there&password=hu@sh", "postgresql://***"),
    ],
)
def test_of_a_state_store_its_place_is_shown(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    """Host, port and database; nothing when a password may be among them."""
    monkeypatch.setenv("DATABASE_URL", url)
    settings = load_settings()
    assert settings.store.shown == shown
    assert settings.store.url == url
    assert "hush" not in str(settings.effective())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PRIMARY_URL", "http://user:hush/hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://user:80/hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://user:hush?hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://user:hush#hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://user:hush\u2100hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://user:hush@127.0.0.1:port"),
        ("PRIMARY_URL", "user:hush@127.0.0.1:9"),
        ("PRIMARY_URL", "http://one/?api_token=hush"),
        ("SYNC_CHUNK_SIZE", "http://user:hush@one"),
        ("SYNC_WEBHOOK_URL", "http://user:hush/hush@one:port"),
        ("PRIMARY_URL", "ftp://user:hush@one"),
        ("REPLICA_HEADERS", '{"authorization": "hush"'),
        ("REPLICA_HEADERS", '["hush"]'),
        ("REPLICA_HEADERS", '{"hush": 7}'),
        ("DATABASE_URL", "mysql://me:hush@db/state"),
        ("SYNC_WEBHOOK_URL", "hooks.example.com/hush"),
        ("SYNC_ALERT_URLS", "hush"),
        ("SYNC_ALERT_URLS", "json://one/x, hush"),
        ("SYNC_HTTP_TOKEN", "hush"),
    ],
)
def test_a_refusal_does_not_tell_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A bad value of a secret setting is refused without being repeated."""
    text = refusal(monkeypatch, name, value)
    assert name in text
    assert "hush" not in text


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("x", "it has fewer than 16 characters"),
        ("fifteen-letters", "it has fewer than 16 characters"),
        ("a space in the middle", "it has a space"),
        ("sixteen-ünicode-letters", "a character that is not ASCII"),
    ],
)
def test_a_token_that_protects_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: str, why: str
) -> None:
    """The refusal says what is wrong with it, and what would do; a long one is taken as it is."""
    text = refusal(monkeypatch, "SYNC_HTTP_TOKEN", token)
    assert why in text
    assert "allowed: at least 16 ASCII characters without spaces" in text
    monkeypatch.setenv("SYNC_HTTP_TOKEN", "sixteen-letters!")
    given = load_settings().sync_http_token
    assert given is not None
    assert given.get_secret_value() == "sixteen-letters!"


def test_a_refused_url_still_shows_where_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what stands before the last @ is masked, and how to write it is told."""
    text = refusal(monkeypatch, "PRIMARY_URL", "http://user:80/hush@127.0.0.1:9")
    assert "'http://***@127.0.0.1:9'" in text
    assert "percent-encode" in text


def test_a_password_of_any_bytes_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not UTF-8 keeps its bytes."""
    monkeypatch.setenv("PRIMARY_URL", "http://user:\udcff@one")
    assert load_settings().server(Side.PRIMARY).headers == {"Authorization": "Basic dXNlcjr/"}


def test_effective_settings_show_value_and_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is listed once, readable, with where it came from."""
    monkeypatch.setenv("SYNC_EXCLUDE", "a,b")
    monkeypatch.setenv("PRIMARY_TOKEN", "x")
    lines = {line.name: line for line in load_settings().effective()}
    assert len(lines) == len(Settings.model_fields)
    assert (lines["SYNC_EXCLUDE"].value, lines["SYNC_EXCLUDE"].origin) == ("a, b", "environment")
    assert lines["PRIMARY_TOKEN"].value == "(hidden)"
    assert lines["REPLICA_TOKEN"].value == "none"
    assert lines["SYNC_SCRUB_BUDGET"].value == "25%"
    assert lines["SYNC_REPLICA_CHECK_INTERVAL"].value == "86400"
    assert lines["SYNC_HTTP_PORT"].value == "off"
    assert lines["DATABASE_URL"].value == "sqlite:///chromasync-data/chromasync.db"


@pytest.mark.parametrize(
    ("limit", "shown"), [(None, "none (no container limit found)"), (512, "512")]
)
def test_a_memory_limit_that_was_not_found_is_not_claimed(limit: int | None, shown: str) -> None:
    """Without a limit of the container, none is in effect, and that is what is shown."""
    lines = {line.name: line for line in Settings(sync_max_memory_mb=limit).effective()}
    assert lines["SYNC_MAX_MEMORY_MB"].value == shown


def test_secret_types_hold_secrets() -> None:
    """Tokens are kept in a type that hides itself."""
    settings = Settings(primary_token=SecretStr("x"))
    assert isinstance(settings.primary_token, SecretStr)
