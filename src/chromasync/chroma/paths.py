"""The paths of Chroma's v2 API, with names quoted."""

from __future__ import annotations

from urllib.parse import quote

from chromasync.model import Collection


def tenant_path(tenant: str) -> str:
    """The path of a tenant."""
    return f"/api/v2/tenants/{quote(tenant, safe='')}"


def database_path(tenant: str, database: str) -> str:
    """The path of a database."""
    return f"{tenant_path(tenant)}/databases/{quote(database, safe='')}"


def collection_path(collection: Collection) -> str:
    """The path of a collection, by its id."""
    return f"{database_path(collection.tenant, collection.database)}/collections/{collection.id}"
