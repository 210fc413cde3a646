"""Stored lists of record ids; see `model.packed` for their form."""

from __future__ import annotations

from sqlalchemy import Dialect, LargeBinary, TypeDecorator

from chromasync.model import pack_ids, unpack_ids


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
