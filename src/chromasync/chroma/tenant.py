"""The tenant of our token, which stands for the default tenant where a server has none.

A token of Chroma Cloud belongs to one tenant, whose name is a UUID; there is no `default_tenant`.
The official client then asks `/auth/identity` and uses the tenant of the token. So does this
program, in the paths of its requests: everywhere else the tenant is the default tenant. So a copy
of a Cloud database has the place that an application looks at on a server of its own, and the
other way round.

    unknown    nothing was asked of the default tenant yet
    own        the server has a default tenant: paths stay as they are, and identity is never asked
    other      it was refused or not found, and the token belongs to another tenant
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from chromasync.model import DEFAULT_TENANT

IDENTITY_PATH = "/api/v2/auth/identity"
ANY_TENANT = "*"
"""What older servers say of a token that belongs to no tenant."""

_DEFAULT_PATH = f"/api/v2/tenants/{DEFAULT_TENANT}"


class TokenTenant:
    """What is known about the default tenant of one server. Thread-safe: it is settled once."""

    def __init__(self) -> None:
        self._settled: str | None = None

    @property
    def other(self) -> str:
        """The tenant that stands for the default tenant; empty if none does."""
        return "" if self._settled in (None, DEFAULT_TENANT) else str(self._settled)

    def path(self, path: str) -> str:
        """The path that is really asked."""
        if not self.other or not _is_of_default(path):
            return path
        return f"/api/v2/tenants/{quote(self.other, safe='')}{path.removeprefix(_DEFAULT_PATH)}"

    def is_unknown(self, path: str) -> bool:
        """Whether the answer to this path shows if the server has a default tenant."""
        return self._settled is None and _is_of_default(path)

    def note_answer(self, path: str) -> None:
        """Note that the server answered a request to this path."""
        if self.is_unknown(path):
            self._settled = DEFAULT_TENANT

    def settle(self, identity: Mapping[str, Any]) -> bool:
        """Note whose token it is; returns whether another tenant stands for the default one."""
        tenant = identity.get("tenant")
        known = isinstance(tenant, str) and tenant not in ("", ANY_TENANT)
        self._settled = str(tenant) if known else DEFAULT_TENANT
        return bool(self.other)


def _is_of_default(path: str) -> bool:
    return path == _DEFAULT_PATH or path.startswith(f"{_DEFAULT_PATH}/")
