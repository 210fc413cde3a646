"""A service that Apprise knows: mail, Telegram, PagerDuty and a hundred others (extra `alerts`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from chromasync.alerts.messages import Message
from chromasync.errors import AlertNotTaken, SettingsError

if TYPE_CHECKING:
    import apprise

_PLAIN = str.maketrans({"<": "\u2039", ">": "\u203a"})

# its lines may hold parts of an address; what matters of them is in our own
logging.getLogger("apprise").addHandler(logging.NullHandler())
logging.getLogger("apprise").propagate = False


class Service:
    """`Receiver` for one of SYNC_ALERT_URLS.

    Args:
        number: its place in the list, from 1; the store knows it by this number.
        url: as Apprise takes it.

    Raises:
        SettingsError: Apprise knows no such service, or cannot read the rest of the URL.
    """

    def __init__(self, number: int, url: str) -> None:
        self.name = f"url {number}"
        scheme = url.partition("://")[0]
        self.place = f"service {number} of SYNC_ALERT_URLS ({scheme}://)"
        self._service = _find(url, number, scheme)

    def send(self, message: Message) -> None:
        """Send a message; raises AlertNotTaken."""
        import apprise  # noqa: PLC0415 -- an extra that may be missing

        try:
            taken = self._service.notify(
                title=message.title.translate(_PLAIN),
                body=message.text.translate(_PLAIN),
                notify_type=apprise.NotifyType.WARNING,
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # noqa: BLE001 -- of a plugin; its words may hold the URL
            why = f" ({type(error).__name__})"
            raise AlertNotTaken(f"The {self.place} failed{why}.") from None
        if not taken:
            raise AlertNotTaken(f"The {self.place} did not take the message.")


def _find(url: str, number: int, scheme: str) -> apprise.NotifyBase:
    import apprise  # noqa: PLC0415 -- an extra that may be missing

    why = ""
    try:
        found = apprise.Apprise.instantiate(url, suppress_exceptions=False)
    except Exception as error:  # noqa: BLE001 -- of a plugin; its words may hold the URL
        found, why = None, f" ({type(error).__name__})"
    if not isinstance(found, apprise.NotifyBase):
        raise SettingsError(
            f"Apprise cannot use the URL number {number} in SYNC_ALERT_URLS{why}, which begins "
            f"with {scheme}://; the rest of it stays hidden.",
            untouched="Nothing was started.",
            hint="Apprise's documentation has the form of each service's URL.",
        )
    return found
