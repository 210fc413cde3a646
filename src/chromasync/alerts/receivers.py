"""The receivers of alerts, from the settings: a webhook, and the services that Apprise knows.

A receiver's address is a secret. Messages name a receiver by its setting, and a webhook by its
host.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

from chromasync.alerts.messages import Message
from chromasync.alerts.service import Service
from chromasync.alerts.webhook import Webhook
from chromasync.config import Settings
from chromasync.errors import SettingsError


class Receiver(Protocol):
    """One place that alerts are sent to.

    Attributes:
        name: tells it from the others in the store; it holds no secret.
        place: what people call it; it holds no secret, either.
    """

    name: str
    place: str

    def send(self, message: Message) -> None:
        """Send a message; raises AlertNotTaken."""


def receivers_of(settings: Settings) -> list[Receiver]:
    """The receivers that the settings name.

    Raises:
        SettingsError: one of them cannot be used.
    """
    receivers: list[Receiver] = []
    if settings.sync_webhook_url is not None:
        receivers.append(Webhook(settings.sync_webhook_url.get_secret_value()))
    if settings.sync_alert_urls:
        if importlib.util.find_spec("apprise") is None:
            raise SettingsError(
                "SYNC_ALERT_URLS is set, but the extra `alerts` of chromasync is not installed.",
                untouched="Nothing was started.",
                hint="Install it with `pip install 'chromasync[alerts]'`, or unset "
                "SYNC_ALERT_URLS. SYNC_WEBHOOK_URL needs no extra.",
            )
        for number, url in enumerate(settings.sync_alert_urls, 1):
            receivers.append(Service(number, url.get_secret_value()))
    return receivers
