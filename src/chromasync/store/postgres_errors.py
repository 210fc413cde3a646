"""Translates errors of PostgreSQL, by SQLSTATE code, into our tree of errors.

A refused connection has no code, because libpq does not pass it on. For these errors, the text of
the server's or libpq's message decides, and an unknown text counts as an outage. An error that
libpq raises before it contacts a server concerns a setting. It gets a code of class F0,
configuration file error.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import errors
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chromasync.errors import StoreError, StoreSettingsError, StoreUnavailable, StoreUnusable

PER_PROCESS = 2
"""Connections that one process needs: one for its work, one for urgent calls."""

_RESUMES = "work resumes by itself"
_ENOUGH = (
    f"chromasync needs {PER_PROCESS} connections for each of its processes: end other programs,"
    " raise max_connections, or put a pooler between"
)
_CREDENTIALS = "Check user and password in DATABASE_URL, and pg_hba.conf of the server"

_ANOTHER = "name another database in DATABASE_URL"

# By SQLSTATE, the longer prefix first: the event, and the hint.
_PASSING = {
    "40001": ("The transaction was rolled back in favour of another", _RESUMES),
    "40P01": ("The transaction was rolled back in favour of another", _RESUMES),
    "72": ("The transaction was rolled back in favour of another", _RESUMES),
    "55P03": ("Another session holds a lock", "Look in pg_locks for an open transaction"),
    "57014": ("A statement took too long", "Look in pg_stat_activity for what slows it down"),
    "57P04": ("The database was dropped", "Create it again, or name another in DATABASE_URL"),
    "57P": ("The server ended the connection", "Check the server"),
    "25P03": ("The server ended the connection", "Check the server"),
    "25P04": ("A transaction took too long", "Raise transaction_timeout of this role"),
    "25006": (
        "The database takes no writes",
        (
            "If it is a standby, name the leading server in DATABASE_URL; if it was made read-only,"
            " take default_transaction_read_only back"
        ),
    ),
    "53100": ("The disk is full", "Free some space"),
    "53300": ("No connection is left", _ENOUGH),
    "53": ("The server has run out of a resource", "Check its log"),
    "58": ("Reading or writing failed", "Check the server's disk and log"),
    "08004": (
        "No server was found that takes writes",
        "Check that one of those in DATABASE_URL leads",
    ),
    "08": ("The connection was lost", "Check the server and the network"),
}
_LASTING = {
    "28": ("refuses the login", _CREDENTIALS),
    "3D000": ("does not exist", "Create it with CREATE DATABASE, or correct DATABASE_URL"),
    "3F": (
        "has no schema for the tables of chromasync",
        (
            "Grant this role USAGE and CREATE on a schema that its search_path names, or name"
            " another with ALTER ROLE ... SET search_path"
        ),
    ),
    "42501": (
        "denies a right that chromasync needs",
        "Grant this role CREATE on the schema and all on the sync_ tables, or make it their owner",
    ),
    "42P01": (
        "lacks tables of chromasync",
        "Drop the others: all are built anew by comparing both sides",
    ),
    "42703": (
        "lacks columns of chromasync",
        "Drop the sync_ tables: they are built anew by comparing both sides",
    ),
    "42P07": (
        "has another object with the name of a table of chromasync",
        f"Rename it, or {_ANOTHER}",
    ),
    "42710": (
        "has another object with the name of a table of chromasync",
        f"Rename it, or {_ANOTHER}",
    ),
    "42704": (
        "lacks an object that its own settings name",
        "Look at default_tablespace and default_table_access_method of this role",
    ),
    "2BP01": (
        "has objects of others that hold a table of chromasync fast",
        "DROP these views or rules, start chromasync, and create them again",
    ),
    "42883": (
        "lacks a function that chromasync needs",
        "Use PostgreSQL itself, in a supported version",
    ),
    "0A": (
        "does not support a feature that chromasync needs",
        "Use PostgreSQL itself, with its ordinary tables (default_table_access_method heap)",
    ),
    "22P05": ("cannot hold a character", f"Use ENCODING 'UTF8': {_ANOTHER}"),
    "22021": ("cannot hold a character", f"Use ENCODING 'UTF8': {_ANOTHER}"),
    "55000": (
        "is configured so that chromasync cannot write",
        "If a publication names all tables, set REPLICA IDENTITY FULL on this one, or leave it out",
    ),
    "P0": (
        "has a trigger that forbids a statement of chromasync",
        f"Let it pass this role's sync_ tables, or {_ANOTHER}",
    ),
    "XX000": ("had an internal error", "Look in the server's log for the reason"),
    "XX001": ("is corrupted", "Restore it, or name an empty one in DATABASE_URL"),
    "XX002": ("is corrupted", "REINDEX it, or name an empty one in DATABASE_URL"),
}
_SETTINGS = {
    "F0001": "Leave target_session_attrs out, or set it to any, read-write or primary",
    "F0002": "Correct require_auth, or what pg_hba.conf of the server asks for",
    "F0003": "Correct sslmode and the certificates named beside it, or what the server presents",
    "F0": "Correct it in DATABASE_URL, or in the PG… variable or service that says it",
}
# Phrases in the message of a refused connection, of the server and of libpq; the first match
# counts.
_REFUSALS = (
    ("unsupported startup parameter", "F0000"),
    ("configuration parameter", "F0000"),
    ("for parameter", "F0000"),
    ("to set parameter", "F0000"),
    ("requires a value", "F0000"),
    ('parameter "', "F0000"),
    ("command-line argument", "F0000"),
    ("client certificate", "28000"),
    ("authentication failed", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("too many c", "53300"),
    ("connection slots", "53300"),
    ("no more connections", "53300"),
    ("starting up", "57P03"),
    ("shutting down", "57P03"),
    ("recovery", "57P03"),
    ("permission denied", "42501"),
    ('role "', "28000"),
    ("user not found", "28000"),
    ("does not exist", "3D000"),
)
_REFUSALS_OF_LIBPQ = (
    ("no password supplied", "28P01"),
    ("session is not read-only", "F0001"),
    ("is not in hot standby", "F0001"),
    ("session is read-only", "08004"),
    ("is in hot standby", "08004"),
    ("authentication method requirement", "F0002"),
    ("channel binding required", "F0000"),
    ("SSL was required", "F0003"),
    ("certificate", "F0003"),
    ("for connection option", "F0000"),
    ("could not match", "F0000"),
    ("could not translate host name", "08000"),
)
_PASSES_SOON = ("40001", "40P01", "72", "57P01", "57P02", "57P03", "57P05", "25P03", "53300", "08")
_PREFIX = re.compile(r"(.*connection (failed|is bad): )?(connection to server .*? failed: )?")


def code_of(error: BaseException | None) -> str:
    """The SQLSTATE of an error of the driver or SQLAlchemy; 08000 if the connection failed."""
    driver = getattr(error, "orig", None) or error
    if isinstance(driver, psycopg.Error):
        if driver.sqlstate:
            return driver.sqlstate
        if isinstance(driver, (psycopg.OperationalError, psycopg.InterfaceError)):
            return _refusal(str(driver))[0]
        return ""
    return "08000" if isinstance(driver, OSError) else ""


def passes_soon(error: BaseException | None) -> bool:
    """Whether a retry may succeed within seconds."""
    return code_of(error).startswith(_PASSES_SOON)


def store_error(error: Exception, place: str) -> StoreError:
    """Our error for an error of the driver, SQLAlchemy or the operating system."""
    if isinstance(error, PoolTimeout):
        return _unavailable("No thread released the connection in time", _RESUMES, place)
    code = code_of(error)
    for prefix, (what, hint) in _PASSING.items():
        if code.startswith(prefix):
            said = f" ({_words_of(error)})" if code.startswith(("08", "57P", "53")) else ""
            return _unavailable(what + said, hint, place)
    for prefix, (what, hint) in _LASTING.items():
        if code.startswith(prefix):
            return _unusable(f"{what} ({_words_of(error)})", hint, place)
    for prefix, hint in _SETTINGS.items():
        if code.startswith(prefix):
            return StoreSettingsError(
                f"The settings lead to no connection ({_words_of(error)}): {place}.",
                untouched="Nothing was changed.",
                hint=f"{hint}.",
            )
    defect = "This is a defect in chromasync; please report it"
    return _unusable(f"raised an unexpected error ({_words_of(error)})", defect, place)


def _refusal(said: str) -> tuple[str, str]:
    """The code for the message of a refused connection, and the line that decided.

    With several hosts, the message has a line for each attempt.
    """
    lines = said.strip().splitlines() or [""]
    for line in lines:
        known = _REFUSALS if "FATAL" in line else _REFUSALS_OF_LIBPQ
        for phrase, code in known:
            if phrase in line:
                return code, line
    before_contact = said.startswith("connection is bad: ") and "connection to server" not in said
    return ("F0000" if before_contact else "08000"), lines[0]


def _words_of(error: Exception) -> str:
    """The server's message in one line; without its detail, which quotes stored values."""
    driver = getattr(error, "orig", None) or error
    if isinstance(driver, errors.Error) and driver.diag.message_primary:
        return str(driver.diag.message_primary)
    words = _refusal(str(driver) or type(driver).__name__)[1]
    _, _, server = words.rpartition("FATAL:")
    return _PREFIX.sub("", server.strip(), count=1)


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
