"""The headers that a server gets: those that were given, and those of its tokens."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from chromasync.config.refusals import two_authorizations
from chromasync.model import Side


def headers_for(
    side: Side, given: Mapping[str, SecretStr], token: SecretStr | None, bearer: SecretStr | None
) -> dict[str, str]:
    """All headers for the server of `side`.

    Raises:
        SettingsError: there would be two Authorization headers.
    """
    headers = {name: value.get_secret_value() for name, value in given.items()}
    if token is not None:
        headers["x-chroma-token"] = token.get_secret_value()
    if bearer is not None:
        if any(name.lower() == "authorization" for name in headers):
            raise two_authorizations(side)
        headers["Authorization"] = f"Bearer {bearer.get_secret_value()}"
    return headers
