"""Detects the capabilities of a server from its published description, not from its version.

Every Chroma 1.x reports the version 1.0.0; `/openapi.json` and `/pre-flight-checks` are reliable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chromasync.chroma import decode
from chromasync.chroma.client import Client
from chromasync.chroma.http_errors import Unexpected
from chromasync.errors import AccessRefused, NotChroma, NotFound, RequestRefused, ServerError
from chromasync.model import Capabilities

USUAL_BATCH_SIZE = 5461


def probe(client: Client) -> Capabilities:
    """Ask a server for its capabilities.

    Raises:
        NotChroma: the server is not Chroma.
        ServerTooOld: it is a Chroma server that is too old to be mirrored.
        ServerError: it gave no usable answer.
    """
    _check_heartbeat(client)
    version = _optional(client, "/api/v2/version", decode.parsed)
    if too_old := client.why_too_old(version):
        raise too_old
    checks = _optional(client, "/api/v2/pre-flight-checks", decode.mapping) or {}
    described = _optional(client, "/openapi.json", decode.mapping)
    base64 = checks.get("supports_base64_encoding") is True
    batch = checks.get("max_batch_size")
    abilities = _guessed(client, base64=base64) if described is None else _described(described)
    return Capabilities(
        version=str(version or "unknown"),
        max_batch_size=batch if isinstance(batch, int) and batch > 0 else USUAL_BATCH_SIZE,
        base64=base64,
        schema=abilities["schema"],
        configuration=abilities["configuration"],
        arrays=abilities["arrays"],
        null_columns=abilities["null_columns"],
        limitations=tuple(_limitations(abilities)),
    )


def _check_heartbeat(client: Client) -> None:
    try:
        client.request("GET", "/api/v2/heartbeat", _heartbeat)
    except (NotFound, NotChroma, RequestRefused) as error:
        where = client.connection.place
        if isinstance(error, NotChroma) and error.status is not None and error.status < 400:
            raise  # a redirect: its own message has the hint
        raise NotChroma(
            f"The {where} does not speak Chroma's v2 API. {error.what}",
            side=client.side,
            status=error.status,
            untouched="Nothing was read or written.",
        ) from error


def _heartbeat(body: bytes) -> None:
    if not isinstance(decode.mapping(body).get("nanosecond heartbeat"), int):
        raise Unexpected("no heartbeat")


def _optional(client: Client, path: str, parse: Any) -> Any:
    """The answer, or None if a proxy or another edition does not offer this path."""
    try:
        return client.request("GET", path, parse)
    except (NotFound, NotChroma, RequestRefused, AccessRefused):
        return None


def _described(openapi: Mapping[str, Any]) -> dict[str, bool]:
    """Abilities from the published paths and schemas."""
    schemas: Mapping[str, Any] = (openapi.get("components") or {}).get("schemas") or {}
    rust = "/api/v2/healthcheck" in (openapi.get("paths") or {})
    return {
        "schema": "schema" in _properties(schemas, "CreateCollectionPayload"),
        # Chroma 1.0.0 already has the field in the request, but ignores it
        "configuration": "configuration_json" in _properties(schemas, "Collection"),
        "arrays": _takes_arrays(schemas.get("HashMap") or {}),
        # the Python servers write a null document as a row that newer servers cannot read
        "null_columns": rust,
    }


def _guessed(client: Client, *, base64: bool) -> dict[str, bool]:
    """Capabilities without a description; the server refuses requests after a wrong guess."""
    try:
        client.request("GET", "/api/v2/healthcheck", decode.parsed)
        rust = True
    except ServerError:
        rust = False
    return {"schema": False, "configuration": base64, "arrays": base64, "null_columns": rust}


def _properties(schemas: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return (schemas.get(name) or {}).get("properties") or {}


def _takes_arrays(metadata: Mapping[str, Any]) -> bool:
    values = metadata.get("additionalProperties")
    choices = (values.get("oneOf") or []) if isinstance(values, dict) else []
    return any(isinstance(choice, dict) and choice.get("type") == "array" for choice in choices)


def _limitations(abilities: Mapping[str, bool]) -> Iterator[str]:
    if not abilities["arrays"]:
        yield "It cannot store lists in metadata (Chroma 1.5.0 and newer can)."
    if not abilities["configuration"]:
        yield (
            "It takes the index's settings only as hnsw: metadata of the collection, and no "
            "description of the embedding function (Chroma 1.0.20 and newer do)."
        )
    elif not abilities["schema"]:
        yield "It has no schema, so metadata indexes cannot be switched (Chroma 1.2.0 can)."
