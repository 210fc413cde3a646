"""Stored lists of record ids: JSON, compressed with a checksum that detects damage."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import orjson
from sqlalchemy import Dialect, LargeBinary, TypeDecorator

_COMPRESSION = 1


def pack_ids(ids: Sequence[str]) -> bytes:
    """The stored form of an id list."""
    return zlib.compress(orjson.dumps(list(ids)), _COMPRESSION)


def unpack_ids(blob: bytes) -> list[str]:
    """The id list in `blob`.

    Raises:
        ValueError: the blob is damaged.
    """
    try:
        return list(orjson.loads(zlib.decompress(blob)))
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error


class IdsOrAll(TypeDecorator[tuple[str, ...]]):
    """Some records of a chunk; NULL or a damaged value stands for all of them."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(
        self,
        value: tuple[str, ...] | None,
        dialect: Dialect,  # noqa: ARG002 (SQLAlchemy gives the signature)
    ) -> bytes | None:
        """The driver's value."""
        return None if value is None else pack_ids(value)

    def process_result_value(
        self,
        value: bytes | None,
        dialect: Dialect,  # noqa: ARG002 (SQLAlchemy gives the signature)
    ) -> tuple[str, ...] | None:
        """The ids; None for all."""
        try:
            return None if value is None else tuple(unpack_ids(value))
        except ValueError:
            return None
