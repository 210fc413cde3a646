"""What PostgreSQL complains of, in our words: SQLSTATE codes and our tree of errors.

A refused connection has no code, because libpq keeps it to itself; there the server's words decide,
and words that we do not know count as an outage.
"""

from __future__ import annotations

import psycopg
from psycopg import errors
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chromasync.errors import StoreError, StoreUnavailable, StoreUnusable

PER_PROCESS = 2
"""Connections that one process needs: one for its work, one for what cannot wait."""

_RESUMES = "work resumes by itself"
_ENOUGH = (
    f"chromasync needs {PER_PROCESS} connections for each of its processes: end other programs,"
    " raise max_connections, or put a pooler between"
)
_CREDENTIALS = "Check user and password in DATABASE_URL, and pg_hba.conf of the server"

# By SQLSTATE, the longer prefix first: what happened, and what to do.
_PASSING = {
    "40001": ("The transaction was undone in favour of another", _RESUMES),
    "40P01": ("The transaction was undone in favour of another", _RESUMES),
    "55P03": ("Another session keeps a lock", "Look in pg_locks for an open transaction"),
    "57014": ("A statement took too long", "Look in pg_stat_activity for what slows it down"),
    "57P04": ("The database was dropped", "Create it again, or name another in DATABASE_URL"),
    "57P": ("The server ended the connection", "Check the server"),
    "25P03": ("The server ended the connection", "Check the server"),
    "25006": (
        "The database takes no writes",
        "It is a standby, or read-only: name the leading server in DATABASE_URL",
    ),
    "53100": ("The disk is full", "Free some space"),
    "53300": ("No connection is left", _ENOUGH),
    "53": ("The server has run out of something", "Check its log"),
    "58": ("Reading or writing failed", "Check the server's disk and log"),
    "08": ("The connection was lost", "Check the server and the network"),
}
_LASTING = {
    "28": ("refuses us", _CREDENTIALS),
    "3D000": ("does not exist", "Create it with CREATE DATABASE, or correct DATABASE_URL"),
    "42501": (
        "denies us what we need",
        "Grant this role CREATE on the schema and all on the sync_ tables, or make it their owner",
    ),
    "42P01": ("has lost tables", "Drop the others: all are built anew by comparing both sides"),
    "42703": ("has lost columns", "Drop our tables: they are built anew by comparing both sides"),
    "XX001": ("is corrupted", "Restore it, or name an empty one in DATABASE_URL"),
    "XX002": ("is corrupted", "REINDEX it, or name an empty one in DATABASE_URL"),
}
# What a refused connection says, the first that fits.
_REFUSALS = (
    ("authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("too many c", "53300"),
    ("connection slots", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("recovery", "57P03"),
    ("permission denied", "42501"),
    ('role "', "28000"),
    ("does not exist", "3D000"),
)
_PASSES_SOON = ("40001", "40P01", "57P01", "57P02", "57P03", "57P05", "25P03", "53300", "08")


def code_of(error: BaseException | None) -> str:
    """The SQLSTATE of an error of driver or SQLAlchemy; 08000 for one of the connection itself."""
    driver = getattr(error, "orig", None) or error
    if isinstance(driver, psycopg.Error):
        if driver.sqlstate:
            return driver.sqlstate
        if isinstance(driver, (psycopg.OperationalError, psycopg.InterfaceError)):
            return _refusal(str(driver))
        return ""
    return "08000" if isinstance(driver, OSError) else ""


def passes_soon(error: BaseException | None) -> bool:
    """Whether the same again may succeed within seconds."""
    return code_of(error).startswith(_PASSES_SOON)


def complaint(error: Exception, place: str) -> StoreError:
    """The error of our tree for one of the driver, SQLAlchemy or the operating system."""
    if isinstance(error, PoolTimeout):
        return _unavailable("No thread gave the connection back in time", _RESUMES, place)
    code = code_of(error)
    for prefix, (what, hint) in _PASSING.items():
        if code.startswith(prefix):
            said = f" ({_words_of(error)})" if code.startswith(("08", "57P", "53")) else ""
            return _unavailable(what + said, hint, place)
    for prefix, (what, hint) in _LASTING.items():
        if code.startswith(prefix):
            return _unusable(f"{what} ({_words_of(error)})", hint, place)
    defect = "This is a defect in chromasync; please report it"
    return _unusable(f"met something unexpected ({_words_of(error)})", defect, place)


def _refusal(words: str) -> str:
    if "FATAL" in words:
        for phrase, code in _REFUSALS:
            if phrase in words:
                return code
    return "08000"


def _words_of(error: Exception) -> str:
    """The server's own words in one line; never its detail, which quotes what was stored."""
    driver = getattr(error, "orig", None) or error
    if isinstance(driver, errors.Error) and driver.diag.message_primary:
        return str(driver.diag.message_primary)
    lines = str(driver).strip().splitlines() or [type(driver).__name__]
    return lines[0].rpartition("FATAL:")[2].rpartition(" failed: ")[2].strip()


def _unavailable(what: str, hint: str, place: str) -> StoreUnavailable:
    resumes = "" if hint.endswith(_RESUMES) else f"; {_RESUMES}"
    hint = f"{hint[0].upper()}{hint[1:]}"
    return StoreUnavailable(
        f"{what}: {place}.", untouched="This step was not recorded.", hint=f"{hint}{resumes}."
    )


def _unusable(what: str, hint: str, place: str) -> StoreUnusable:
    return StoreUnusable(
        f"{place[0].upper()}{place[1:]} {what}.",
        untouched="It was left as it is.",
        hint=f"{hint}.",
    )
