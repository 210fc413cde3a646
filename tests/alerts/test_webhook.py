"""The webhook and Apprise, against a real HTTP server."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chromasync.alerts import check_receivers, receivers_of
from chromasync.alerts.messages import Message
from chromasync.alerts.webhook import Webhook
from chromasync.config import Settings
from chromasync.errors import AlertNotTaken, SettingsError
from tests.alerts.post import SECRET, Post
from tests.support.gateway import Gateway

HELLO = Message("chromasync: Test", "All is well.")


def refused(post: Post) -> AlertNotTaken:
    """The error of a message to this receiver; it has no part of the secret address."""
    with pytest.raises(AlertNotTaken) as caught:
        Webhook(post.url).send(HELLO)
    assert not any(part in str(caught.value) for part in (*SECRET.split("/"), "services"))
    assert post.host in str(caught.value)
    return caught.value


def test_the_body_is_what_chats_read(post: Post) -> None:
    """One request with JSON that has a text and nothing else, because some refuse more."""
    Webhook(post.url).send(HELLO)
    (request,) = post.requests
    assert request["json"] == {"text": "*chromasync: Test*\nAll is well."}
    assert request["path"] == f"/services/{SECRET}"
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["headers"]["Host"] == post.host


def test_what_slack_reads_as_commands_is_escaped(post: Post) -> None:
    """Mentions and links begin with `<`, and entities with `&`."""
    Webhook(post.url).send(Message("t", "<!channel> & <http://evil|click> &lt;"))
    assert post.texts[0].endswith("&lt;!channel&gt; &amp; &lt;http://evil|click&gt; &amp;lt;")


def test_user_and_password_become_a_header(post: Post) -> None:
    """They are sent, and not as a part of the address."""
    hook = Webhook(post.url.replace("http://", "http://me:pa%40ss@"))
    hook.send(HELLO)
    assert post.requests[0]["headers"]["Authorization"] == "Basic bWU6cGFAc3M="
    assert "pa" not in hook.place


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
def test_a_refusal_is_told_with_the_receivers_own_words(post: Post, status: int) -> None:
    """Status and answer say what is wrong."""
    post.status, post.body = status, b"channel_is_archived"
    error = refused(post)
    assert f'({status}): "channel_is_archived"' in str(error)
    assert error.retry_after_seconds is None


def test_an_answer_that_repeats_the_address_is_not_shown(post: Post) -> None:
    """Many servers put the path into their error page."""
    post.status = 404
    for answer in (f"Cannot POST /services/{SECRET}", "no_team for T00SECRET", "<html>no</html>"):
        post.body = answer.encode()
        assert str(refused(post)).startswith(f"The webhook at http://{post.host} refused")


def test_a_busy_receiver_names_its_pause(post: Post) -> None:
    """429 with Retry-After."""
    post.status, post.headers = 429, {"Retry-After": "77"}
    assert refused(post).retry_after_seconds == 77


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(post: Post, status: int) -> None:
    """A POST would become a GET, and a login page would count as a receiver."""
    with Post() as other:
        post.status, post.headers = status, {"Location": other.url}
        assert "redirect" in str(refused(post))
        assert other.requests == []


def test_a_hanging_receiver_is_left_alone_soon(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as away."""
    monkeypatch.setattr("chromasync.alerts.webhook.ANSWER_SECONDS", 0.2)
    post.is_hanging = True
    assert "did not answer in time" in str(refused(post))


def test_nobody_there(post: Post) -> None:
    """A closed port and an unknown host are told by the system's words."""
    with Post() as gone:
        url, host = gone.url, gone.host
    with pytest.raises(AlertNotTaken, match="Connection refused") as caught:
        Webhook(url).send(HELLO)
    assert host in str(caught.value)


def test_a_proxy_of_the_environment_is_used(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same variables as for the servers, and it is named when a message is refused."""
    for variable in ("NO_PROXY", "no_proxy", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Gateway(f"http://{post.host}") as gateway:
        monkeypatch.setenv("HTTP_PROXY", gateway.url())
        hook = Webhook(f"http://hooks.internal/{SECRET}")
        hook.send(HELLO)
        assert gateway.passed == [("forward", "hooks.internal")]
        assert len(post.texts) == 1
        post.status = 500
        with pytest.raises(AlertNotTaken, match="through the proxy") as caught:
            hook.send(HELLO)
        assert gateway.url() in str(caught.value)


# ---- Apprise ---------------------------------------------------------------------------------


def settings_with(**values: Any) -> Settings:
    return Settings(primary_url="http://one:8000", replica_url="http://two:8000", **values)


def test_apprise_sends_to_any_of_its_services(post: Post) -> None:
    """Here its JSON service; each URL is a receiver of its own."""
    urls = (SecretStr(f"json://{post.host}/a"), SecretStr(f"json://{post.host}/b"))
    receivers = receivers_of(settings_with(sync_alert_urls=urls))
    assert [receiver.name for receiver in receivers] == ["url 1", "url 2"]
    for receiver in receivers:
        receiver.send(Message("title", "a <b> c"))
    assert [request["path"] for request in post.requests] == ["/a", "/b"]
    assert post.requests[0]["json"]["title"] == "title"
    assert post.requests[0]["json"]["message"] == "a \u2039b\u203a c"


def test_apprise_says_when_a_service_refuses(post: Post, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the address, in the error and in what Apprise itself would print."""
    post.status = 500
    (receiver,) = receivers_of(
        settings_with(sync_alert_urls=(SecretStr(f"json://me:s3cret@{post.host}/hush"),))
    )
    with pytest.raises(AlertNotTaken) as caught:
        receiver.send(HELLO)
    assert "service 1 of SYNC_ALERT_URLS (json://)" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("s3cret", "hush"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("url", ["nothing://x", "slack://", "mailto://s3cret"])
def test_a_service_that_apprise_does_not_know_is_a_settings_error(url: str) -> None:
    """At the start, without what stands behind the scheme."""
    with pytest.raises(SettingsError, match="number 1 in SYNC_ALERT_URLS") as caught:
        receivers_of(settings_with(sync_alert_urls=(SecretStr(url),)))
    assert "s3cret" not in str(caught.value)


def test_without_its_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to type stands in the message; a webhook alone needs no extra."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(SettingsError, match=r"pip install 'chromasync\[alerts\]'"):
        receivers_of(settings_with(sync_alert_urls=(SecretStr("json://127.0.0.1"),)))
    hook = SecretStr("http://127.0.0.1/x")
    assert [r.name for r in receivers_of(settings_with(sync_webhook_url=hook))] == ["webhook"]


# ---- doctor ----------------------------------------------------------------------------------


def test_the_doctor_reports_each_receivers_answer(post: Post) -> None:
    """One check for each; those that failed have an exit code."""
    urls = (SecretStr(f"json://{post.host}/a"), SecretStr("json://127.0.0.1:9/b"))
    settings = settings_with(sync_webhook_url=SecretStr(post.url), sync_alert_urls=urls)
    checks = check_receivers(settings, send=True)
    assert [check.exit_code for check in checks] == [0, 0, 3]
    assert [request["path"] for request in post.requests] == [f"/services/{SECRET}", "/a"]
    assert "chromasync one:8000 → two:8000: Test" in post.texts[0]
    assert len(check_receivers(settings, send=False)) == 1
    assert len(post.requests) == 2


def test_the_doctor_says_when_nobody_would_be_told() -> None:
    """That is no error, unless a test was asked for."""
    assert [check.exit_code for check in check_receivers(settings_with(), send=False)] == [0]
    assert [check.exit_code for check in check_receivers(settings_with(), send=True)] == [2]


def test_nothing_is_logged_by_libraries(post: Post) -> None:
    """No line has the address, and no thread is left."""
    with capture_logs() as logs:
        Webhook(post.url).send(HELLO)
    assert logs == []
    assert not [t for t in threading.enumerate() if t.name.startswith("alerts-")]
