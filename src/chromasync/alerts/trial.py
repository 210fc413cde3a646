"""Tries the receivers for the doctor, and names the deployment in messages."""

from __future__ import annotations

from urllib.parse import urlsplit

from chromasync.alerts.messages import Message
from chromasync.alerts.receivers import Receiver, receivers_of
from chromasync.config import Settings, folder_of
from chromasync.errors import AlertNotTaken, SettingsError
from chromasync.reports import Check

TEST = (
    "This is a test of `chromasync doctor --alert`. Alerts of this deployment will arrive here; "
    "nothing is wrong."
)
NOWHERE = "would be sent to nobody: neither SYNC_WEBHOOK_URL nor SYNC_ALERT_URLS is set"


def place_of(settings: Settings) -> str:
    """The deployment in words: the program, and the hosts of both servers."""
    hosts = [_host(url) for url in (settings.primary_url, settings.replica_url)]
    return f"chromasync {hosts[0]} → {hosts[1]}" if all(hosts) else "chromasync"


def _host(url: str) -> str:
    folder = folder_of(url)
    return urlsplit(url).netloc if folder is None else str(folder)


def check_receivers(settings: Settings, *, send: bool) -> list[Check]:
    """Whether each receiver can be used; with `send`, what it answers to a test message."""
    try:
        receivers = receivers_of(settings)
    except SettingsError as error:
        return [Check("alerts", str(error), error.exit_code)]
    if not receivers:
        return [Check("alerts", NOWHERE, SettingsError.exit_code if send else 0)]
    if not send:
        places = ", ".join(receiver.place for receiver in receivers)
        return [Check("alerts", f"go to the {places}; --alert sends a test")]
    message = Message(f"{place_of(settings)}: Test", TEST)
    return [_tried(receiver, message) for receiver in receivers]


def _tried(receiver: Receiver, message: Message) -> Check:
    try:
        receiver.send(message)
    except AlertNotTaken as error:
        return Check("alerts", str(error), error.exit_code)
    return Check("alerts", f"the {receiver.place} took the test message")
