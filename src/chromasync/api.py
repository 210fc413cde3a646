"""The commands as functions: they return frozen reports, and raise `ChromasyncError` subclasses.

Every function opens servers and state store for itself and closes them before it returns. So calls
may come from any thread, and several pairs of servers may be mirrored in one process; each pair
needs a state store of its own. Nothing is printed, no signal is handled, no logging is set up, and
the environment is not read unless a call asks for it.

Arguments that all functions have:

    primary      the URL of the server that is read, or the path of its folder
    replica      the same of the server that is kept identical
    store        the state store: a SQLite file, `sqlite:///…` or `postgresql://…`; by default the
                 file that the command line uses: `chromasync-data/chromasync.db`, or one of the
                 replica's own if one side is a folder
    environment  settings that the call does not give come from the environment and
                 `chromasync.toml`, as on the command line
    **settings   other settings by keyword, see `SettingKeywords`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, Unpack

import chromasync.telling.notebook  # noqa: F401 -- it registers itself for the reports
from chromasync.app import Application
from chromasync.config import Settings
from chromasync.config.from_keywords import Place, settings_from
from chromasync.errors import SettingsError
from chromasync.keywords import SettingKeywords
from chromasync.model import Hold
from chromasync.ports import Progress
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, PlanReport, StatusSnapshot, VerifyReport
from chromasync.retries import log_own_retries

MOST_QUERIES = 10_000

T = TypeVar("T")


def sync(
    primary: Place | None = None,
    replica: Place | None = None,
    *,
    store: Place | None = None,
    full: bool = False,
    adopt: bool = False,
    rebuild: str | Sequence[str] = (),
    progress: Progress | None = None,
    environment: bool = False,
    **settings: Unpack[SettingKeywords],
) -> CycleReport:
    """Run one cycle: make the replica identical to the primary, and report what was done.

    Only differences are written. If another process leads on the store, that process runs the
    cycle, and this call waits for it.

    Args:
        full: read every record again, without regard to `scrub_budget`.
        adopt: take over collections of the replica that are mostly different; this overwrites
            records.
        rebuild: names of collections of the replica to build anew, which then replace the old ones.
        progress: shows how far the work is; nothing is shown by default.

    Returns:
        The report. `outcome` says whether the replica is identical, and `exit_code` is 0 if so.
        Counts are numbers of records, durations are seconds, instants are in UTC.

    Raises:
        SettingsError: a keyword or a value is wrong, or a server is missing.
        GuardRefusal: both places are the same server.
        FolderInUse: somebody has a folder open, this process included.
        ServerError: a server cannot be used, after retries.
        StoreError: the state store cannot be used.
        Paused: someone paused the service.
        ReplicaPromoted: the replica is the primary now.
        AnotherStore: another state store uses this replica.
        AnotherInstance: another process leads, and cannot do `adopt` or `rebuild`.
    """
    found = settings_from(primary, replica, store, dict(settings), environment=environment)
    with opened(found) as app:
        return app.sync(
            progress or Quiet(), full=full, adopt=adopt, rebuild=names_of(rebuild, "rebuild")
        )


def plan(
    primary: Place | None = None,
    replica: Place | None = None,
    *,
    store: Place | None = None,
    rebuild: str | Sequence[str] = (),
    progress: Progress | None = None,
    environment: bool = False,
    **settings: Unpack[SettingKeywords],
) -> PlanReport:
    """Report what the next cycle would do; nothing is written, not even to the state store.

    Args:
        rebuild: names of collections of the replica that the cycle would build anew.
        progress: shows how far the work is; nothing is shown by default.

    Returns:
        The plan: records to create, update and delete in each collection, `bytes` to send, and
        `expected_seconds`. `is_idle` says that a cycle would change nothing.

    Raises:
        SettingsError: a keyword or a value is wrong, or a server is missing.
        GuardRefusal: both places are the same server.
        FolderInUse: somebody has a folder open, this process included.
        ServerError: a server cannot be used, after retries.
        StoreError: the state store cannot be used.
    """
    found = settings_from(primary, replica, store, dict(settings), environment=environment)
    with opened(found) as app:
        return app.plan(progress or Quiet(), rebuild=names_of(rebuild, "rebuild"))


def verify(
    primary: Place | None = None,
    replica: Place | None = None,
    *,
    store: Place | None = None,
    sample_percent: float = 100.0,
    queries: int = 0,
    repair: bool = False,
    progress: Progress | None = None,
    environment: bool = False,
    **settings: Unpack[SettingKeywords],
) -> VerifyReport:
    """Compare both sides record by record, without trust in what earlier cycles stored.

    Args:
        sample_percent: compare only a random share of the records, above 0 and at most 100.
        queries: also compare the answers of both sides to so many queries for each collection, at
            most 10,000.
        repair: repair differences by a full cycle, then compare again.
        progress: shows how far the work is; nothing is shown by default.

    Returns:
        The comparison: records that are the same, missing, extra, changed or inconclusive in each
        collection, and the first findings by name. `different` is 0 if nothing differs.

    Raises:
        SettingsError: a keyword or a value is wrong, or a server is missing.
        GuardRefusal: both places are the same server.
        FolderInUse: somebody has a folder open, this process included.
        ServerError: a server cannot be used, after retries.
        StoreError: the state store cannot be used.
        Paused: someone paused the service, so nothing was repaired.
    """
    if not 0 < sample_percent <= 100:
        raise _refused("sample_percent", sample_percent, "a number above 0, at most 100")
    if not 0 <= queries <= MOST_QUERIES:
        raise _refused("queries", queries, f"a whole number from 0 to {MOST_QUERIES}")
    found = settings_from(primary, replica, store, dict(settings), environment=environment)
    with opened(found) as app:
        return app.verify(
            progress or Quiet(), sample_percent=sample_percent, repair=repair, queries=queries
        )


def status(
    *,
    primary: Place | None = None,
    replica: Place | None = None,
    store: Place | None = None,
    environment: bool = False,
    **settings: Unpack[SettingKeywords],
) -> StatusSnapshot:
    """Report what the state store knows; no server is asked, so it works while one is away.

    `primary` and `replica` may be given, so that one set of keywords serves all functions.

    Returns:
        The state at one instant. `lag_seconds` is the age of the replica in seconds, None until
        every collection was identical once. `exit_code` is 0 if all is well.

    Raises:
        SettingsError: a keyword or a value is wrong.
        StoreError: the state store cannot be used.
    """
    with opened(_for_store(primary, replica, store, settings, environment=environment)) as app:
        return app.status()


def approve(
    what: str | Hold | Sequence[str | Hold],
    *,
    primary: Place | None = None,
    replica: Place | None = None,
    store: Place | None = None,
    expect: int | None = None,
    environment: bool = False,
    **settings: Unpack[SettingKeywords],
) -> tuple[Hold, ...]:
    """Let through what a guard holds, once; the next cycle carries it out.

    Args:
        what: holds of a report (`report.holds`), which are approved exactly as they were reported;
            or names of collections. A name needs the digest of its hold (`docs@3f9a`), or `expect`,
            unless a person has seen the hold on the command line.
        expect: approve only if so many records are held under these names together.

    Returns:
        The holds that are approved now.

    Raises:
        ChromasyncError: nothing is held there, or the hold is not what was reported any more.
        SettingsError: a keyword or a value is wrong, several collections have a name, or there is
            no state store.
        StoreError: the state store cannot be used.
    """
    chosen = (what,) if isinstance(what, str | Hold) else what
    names = [one if isinstance(one, str) else exactly(one) for one in chosen]
    with opened(_for_store(primary, replica, store, settings, environment=environment)) as app:
        return tuple(app.approve(names, everything=False, expected=expect))


@contextmanager
def opened(settings: Settings) -> Iterator[Application]:
    """The program for these settings, quiet on stdout; closed at the end of the block."""
    log_own_retries()
    with Application.open(settings) as app:
        yield app


def exactly(hold: Hold) -> str:
    """The name that means this hold as it is, and no later one of the same collection."""
    return f"{hold.collection_id}@{hold.set_digest}"


def names_of(given: str | Sequence[str], argument: str) -> Sequence[str]:
    """One name or several.

    Raises:
        SettingsError: it is neither.
    """
    if isinstance(given, str):
        return (given,)
    if not all(isinstance(name, str) for name in given):
        raise _refused(argument, given, "the name of a collection, or a list of names")
    return tuple(given)


def _for_store(
    primary: Place | None,
    replica: Place | None,
    store: Place | None,
    settings: SettingKeywords,
    *,
    environment: bool,
) -> Settings:
    """Settings of a call that needs the state store only."""
    return settings_from(
        primary, replica, store, dict(settings), environment=environment, servers_required=False
    )


def _refused(argument: str, value: object, allowed: str) -> SettingsError:
    return SettingsError(
        f"{argument} is {value!r}; allowed: {allowed}.", untouched="Nothing was started."
    )
