"""The former place of `lab.postgres_server`, for scripts that still import it from here."""

from chromasync.lab.postgres_server import LocalPostgres, LocalPostgresError

__all__ = ["LocalPostgres", "LocalPostgresError"]
