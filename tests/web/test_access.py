"""Who may read and press, asked over HTTP."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from chromasync.errors import ChromasyncError
from chromasync.web.access import COOKIE
from tests.web import scenes
from tests.web.conftest import BEARER, HERE, TOKEN, Ask, World

READ = ("/live", "/confirm?action=sync", "/api/v1/status", "/api/v1/history", "/metrics")
OPEN = ("/healthz", "/readyz", "/login", "/static/page.css")
SAME = {"origin": HERE, "sec-fetch-site": "same-origin"}


def log_in(client: TestClient) -> str:
    """Log in by the form; returns the signature that the page's forms carry."""
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    text = client.get("/").text
    return text.split('name="signature" value="')[1].split('"')[0]


@pytest.mark.parametrize("path", READ)
def test_without_the_token_nothing_is_told(ask: Ask, path: str) -> None:
    """Neither no token nor a wrong one reads anything, and the answer says what is needed."""
    client = ask()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "passages" not in answer.text
    assert client.get(path, headers=BEARER).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_health_and_the_form_need_no_token(ask: Ask, path: str) -> None:
    """A platform's health check sends no token, and learns nothing from the answer."""
    answer = ask().get(path)
    assert answer.status_code == 200
    assert "passages" not in answer.text


def test_a_reader_without_a_session_is_led_to_the_form(ask: Ask) -> None:
    """The page itself answers with the form; a wrong token stays there."""
    client = ask()
    assert client.get("/").headers["location"] == "login"
    wrong = client.post("/login", data={"token": "guess"})
    assert (wrong.status_code, COOKIE in wrong.cookies) == (401, False)


def test_the_cookie_admits_and_holds_no_token(ask: Ask) -> None:
    """It is for this site's own pages alone, hidden from scripts, and ends with the session."""
    client = ask()
    signature = log_in(client)
    assert client.get("/").status_code == 200
    cookie = ask().post("/login", data={"token": TOKEN}).headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert client.post("/logout", data={"signature": signature}, headers=SAME).status_code == 303
    assert client.get("/live").status_code == 401


def test_behind_an_encrypting_proxy_the_cookie_stays_encrypted(ask: Ask) -> None:
    """A browser then never sends it in the clear."""
    headers = {"x-forwarded-proto": "https"}
    answer = ask().post("/login", data={"token": TOKEN}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]


def test_forged_old_and_foreign_sessions_do_not_admit(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed end, a session of another token, and one that is over are all refused."""
    value = ask().post("/login", data={"token": TOKEN}).cookies[COOKIE]
    until, _, signature = value.partition(".")
    client = ask()

    def status(of: TestClient, cookie: str) -> int:
        return of.get("/live", headers={"cookie": f"{COOKIE}={cookie}"}).status_code

    for forged in (f"{int(until) + 1}.{signature}", signature, "", "x.y", f"{until}.", "9.9"):
        assert status(client, forged) == 401
    assert status(ask(token="another-token-of-ours"), value) == 401
    assert status(client, value) == 200
    monkeypatch.setattr("chromasync.web.access.time.time", lambda: int(until) + 1.0)
    assert status(client, value) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": HERE, "sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {},
    ],
)
def test_a_form_of_another_site_presses_no_button(
    ask: Ask, world: World, headers: dict[str, str]
) -> None:
    """Even with the cookie and the right signature, where the form comes from decides."""
    client = ask()
    signature = log_in(client)
    form = {"action": "resume", "signature": signature}
    assert client.post("/act", data=form, headers=headers).status_code == 403
    assert client.post("/logout", data=form, headers=headers).status_code == 403
    assert world.operator.asked == []
    assert client.post("/act", data=form, headers=SAME).status_code == 200
    assert world.operator.asked == [("resume",)]


def test_a_form_without_the_pages_signature_presses_no_button(ask: Ask, world: World) -> None:
    """The signature is that of the reader's own session."""
    client, other = ask(), ask()
    log_in(client)
    foreign = "0" * 64
    for form in ({"action": "resume"}, {"action": "resume", "signature": foreign}):
        assert client.post("/act", data=form, headers=SAME).status_code == 403
    assert other.post("/act", data={"action": "resume"}, headers=SAME).status_code == 403
    assert world.operator.asked == []


def test_a_program_with_the_token_needs_no_signature(ask: Ask, world: World) -> None:
    """No browser adds the header by itself, so nobody else can have sent it."""
    assert ask().post("/act", data={"action": "sync"}, headers=BEARER).status_code == 200
    assert [call[0] for call in world.operator.asked] == ["sync"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_without_a_token_the_page_has_no_buttons(ask: Ask, world: World, host: str) -> None:
    """Everybody reads, nobody presses: an approval deletes records."""
    world.snapshot = scenes.held()
    client = ask(token=None, host=host)
    text = client.get("/").text
    assert "Approve 4,210" not in text
    assert "Sync now" not in text
    for headers in (SAME, SAME | BEARER):
        assert client.post("/act", data={"action": "sync"}, headers=headers).status_code == 403
    assert world.operator.asked == []


def test_a_page_that_is_open_to_everybody_says_so_loudly(ask: Ask) -> None:
    """There is a banner beyond loopback without a token, and nowhere else."""
    loud = "Everybody who reaches this port can read this page"
    assert loud in ask(token=None, host="0.0.0.0").get("/").text
    assert loud in ask(token=None, host="::").get("/").text
    assert loud not in ask(token=None, host="::1").get("/").text
    assert loud not in ask(host="0.0.0.0").get("/", headers=BEARER).text


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_a_name_of_another_site_reads_no_loopback_page(ask: Ask, name: str) -> None:
    """Who lets a name of their own lead to this machine gets nothing."""
    client = ask(token=None)
    for path in ("/", "/api/v1/status", "/metrics"):
        assert client.get(path, headers={"host": name}).status_code == 421
        for own in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
            assert client.get(path, headers={"host": own}).status_code == 200


def test_every_answer_forbids_foreign_scripts_and_frames(ask: Ask) -> None:
    """Strict headers on the page, on files, on refusals and on errors."""
    client = ask()
    for path in ("/", "/live", "/static/page.css", "/metrics", "/gone", "/login"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/live", headers=BEARER).headers["cache-control"] == "no-store"


def test_a_huge_or_broken_form_is_refused(ask: Ask, world: World) -> None:
    """Neither ends the server."""
    client = ask()
    for body in (b"token=" + b"x" * 20_000, b"\xff\xfe", b""):
        assert client.post("/login", content=body).status_code == 401
        assert client.post("/act", content=body).status_code == 403
    assert world.operator.asked == []


def test_an_action_that_fails_says_why(ask: Ask, world: World) -> None:
    """The operator's error is shown, and so is a button that does not exist."""
    world.operator.trouble = ChromasyncError("It is gone.", untouched="Nothing was approved.")
    client = ask()
    form = {"action": "approve", "collection": "id-products", "digest": "3f9a"}
    text = client.post("/act", data=form, headers=BEARER).text
    assert "It is gone. Nothing was approved." in text
    text = client.post("/act", data={"action": "explode"}, headers=BEARER).text
    assert "no such button" in text


def test_what_was_confirmed_is_what_is_asked_for(ask: Ask, world: World) -> None:
    """The approval names the set by its digest, and the pause its reason and its end."""
    world.snapshot = scenes.held()
    client = ask()
    hold = scenes.HOLD
    query = {"action": "approve", "collection": hold.collection_id, "digest": hold.set_digest}
    text = client.get("/confirm", params=query, headers=BEARER).text
    assert "deleting 4,210 records" in text
    client.post("/act", data=query, headers=BEARER)
    pause = {"action": "pause", "reason": "a new disk", "seconds": "3600"}
    client.post("/act", data=pause, headers=BEARER)
    assert world.operator.asked == [
        ("approve", hold.collection_id, hold.set_digest),
        ("pause", "page@testclient", "a new disk", 3600.0),
    ]
    gone = client.get("/confirm", params=query | {"digest": "beef"}, headers=BEARER)
    assert (gone.status_code, "held no more" in gone.text) == (200, True)
