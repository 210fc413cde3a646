"""The paths of Chroma's v2 API, with names quoted."""

from __future__ import annotations

from urllib.parse import quote

from chromasync.model import Collection


def tenant_path(tenant: str) -> str:
    """Of a tenant."""
    return f"/api/v2/tenants/{quote(tenant, safe='')}"


def database_path(tenant: str, database: str) -> str:
    """Of one of its databases."""
    return f"{tenant_path(tenant)}/databases/{quote(database, safe='')}"


def collection_path(collection: Collection) -> str:
    """Of a collection, by its id."""
    return f"{database_path(collection.tenant, collection.database)}/collections/{collection.id}"
