"""Copies the replica's content to a new, empty server, and proves that both are the same.

The engine does the work: its ordinary cycles run with the replica as the primary and the new server
as the replica, over a state file of their own. So a restore that was interrupted goes on where it
stopped, and a collection is never copied over another one.

    look at both servers, refuse → lead → pause the service → cycle → verify → (full cycle → verify)
    → record the copies → end the pause

The new server must list no collection, except those that the state file knows as its own copies.
No mark is written there, because the server becomes a primary. Chroma gives every collection a new
id. The state store therefore records the copies, and a cycle with the new server as PRIMARY_URL
takes each for the collection that its source mirrors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from glob import escape
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from chromasync.config import UNMADE, Drift, Settings, Target
from chromasync.config.folders import file_name_of
from chromasync.config.shown import hide_secrets
from chromasync.config.values import LONGEST_SECONDS
from chromasync.errors import GuardRefusal, NotFound, SettingsError
from chromasync.failover_reports import RestoredCollection, RestoreReport
from chromasync.guard import refuse_nested
from chromasync.model import Collection, CycleStatus, MirrorStatus, Side
from chromasync.plan.listing import Listing, list_primary, place_of
from chromasync.plan.pairing import BUILDING_MARK
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.processes import has_ended, operator_name
from chromasync.reports import CycleReport, VerifiedCollection, VerifyReport
from chromasync.role import PATIENT_LEADS, Participant
from chromasync.steering import GRACE_SECONDS, NAP_SECONDS, WATCH_SECONDS
from chromasync.store import open_store, store_exists
from chromasync.verify import Verifier

QUERIES = 20
"""Queries for each collection, sent to both servers."""

OBEYED_SECONDS = WATCH_SECONDS + GRACE_SECONDS + 1.0
"""After this time, every process that is alive has seen a pause and stopped."""

SHOWN_NAMES = 3

NOTHING_WRITTEN = "Nothing was written to it."
ROLES = "In the notes below, the primary is the replica, and the replica is the new server."
UNPAUSED = (
    "There is no state store here, so no service was paused. Nobody may write to the replica "
    "during a restore."
)
PROMOTED = (
    "The replica was promoted, so applications may have written to it during the restore. Their "
    "last writes may be missing on the new server."
)
_SIDE_SETTINGS = ("token", "bearer", "headers", "ca_file", "tls_verify", "client_cert")


def restore_settings(settings: Settings, to: str, names: Sequence[str]) -> Settings:
    """The settings of the cycles that copy: the replica as the primary, `to` as the replica.

    The new server is going to be the primary, so it gets the token, the headers and the
    certificates of the primary.

    Args:
        names: the only collections to copy; none of them means all that the settings include.

    Raises:
        SettingsError: `to` is neither a URL nor a folder, or REPLICA_URL is not set.
    """
    source = settings.server(Side.REPLICA)
    target = _parsed(settings, to)
    changes: dict[str, Any] = {"primary_url": source.url, "replica_url": target.replica_url}
    for name in _SIDE_SETTINGS:
        changes[f"primary_{name}"] = getattr(settings, f"replica_{name}")
        changes[f"replica_{name}"] = getattr(settings, f"primary_{name}")
    if names:
        changes |= {"sync_include": tuple(escape(name) for name in names), "sync_exclude": ()}
    changes["replica_headers"] = target.replica_headers
    changes |= {
        # building names and kept collections are no content, nor is what SYNC_TARGET did not make
        "sync_exclude": (
            *changes.get("sync_exclude", settings.sync_exclude),
            f"*{BUILDING_MARK}*",
            f"{UNMADE}*",
        ),
        "sync_target": Target(),  # the source is seen under the primary's names
        "database_url": SecretStr(f"sqlite:///{state_path(settings, target.replica_url)}"),
        "sync_mark": False,
        "sync_drift": Drift.HOLD,
        "sync_keep_dropped": None,
        "sync_assume_away": float(LONGEST_SECONDS),
        "sync_max_requests_per_second": None,
        "sync_distributed": False,
    }
    return settings.model_copy(update=changes)


def state_path(settings: Settings, url: str) -> str:
    """The state file of a restore to the server, or the folder, at `url`."""
    return str(settings.sync_data_dir / f"restore-{file_name_of(url)}.db")


def _parsed(settings: Settings, to: str) -> Settings:
    """Settings whose replica is the server at `to`, with its user and password as a header."""
    if not to.strip():
        raise SettingsError(
            "--to is empty.",
            untouched="Nothing was started.",
            hint="Give the URL of a new, empty server, or a new folder.",
        )
    headers = {name: value.get_secret_value() for name, value in settings.primary_headers.items()}
    if "@" in urlsplit(to).netloc:  # its own user and password
        headers = {
            name: value for name, value in headers.items() if name.lower() != "authorization"
        }
    try:
        return Settings(replica_url=to, replica_headers=headers)
    except ValidationError as error:
        reason = "; ".join(str(e.get("ctx", {}).get("error", e["msg"])) for e in error.errors())
        raise SettingsError(
            f"{hide_secrets(to)!r} cannot be the URL of a server: {reason}.",
            untouched="Nothing was started.",
            hint="Give a URL like http://host:8000, or a folder like ./chroma or /data/chroma.",
        ) from None


def refuse_urls(settings: Settings, target_url: str) -> None:
    """Raise if the URL of the new server is that of the replica or of the primary.

    Raises:
        GuardRefusal: they are the same, or a folder and one inside it.
    """
    if target_url == settings.replica_url:
        raise GuardRefusal(
            f"--to is the replica itself ({target_url}).",
            untouched=NOTHING_WRITTEN,
            hint="Give the URL of a new, empty server.",
        )
    if target_url == settings.primary_url:
        raise GuardRefusal(
            f"--to is PRIMARY_URL ({target_url}), and the primary is never written to.",
            untouched=NOTHING_WRITTEN,
            hint="If a new, empty server answers there now, leave PRIMARY_URL out of this command: "
            'give --primary "".',
        )
    for url in (settings.replica_url, settings.primary_url):
        refuse_nested(url, target_url)


class Restore:
    """One restore.

    Args:
        source: the replica.
        target: the new server.
        settings: see `restore_settings`.
        main: the state store of the service; None if there is none.
        names: the only collections to copy; none of them means all.
    """

    def __init__(
        self,
        source: Reader,
        target: Writer,
        settings: Settings,
        main: Store | None,
        names: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._target = target
        self._settings = settings
        self._main = main
        self._names = names
        self._url = settings.replica_url

    def run(self, progress: Progress) -> RestoreReport:
        """Copy, verify, and record the copies in the state store of the service.

        Raises:
            GuardRefusal: the new server is not empty, or it is the replica or the primary.
            SettingsError: the replica lacks a collection or a database that was asked for.
            AnotherInstance: another process restores to this server.
            ChromasyncError: a server or a store failed; the next run goes on.
        """
        began = time.monotonic()
        listing = self._look()
        # the lead comes before the pause: another restore to this server must not lose its own
        with (
            closing(open_store(self._settings.store)) as state,
            self._participant(state) as participant,
            self._service_paused(progress),
        ):
            cycles, verified = self._copy(participant, progress)
            copies = _copies(state)
            report = self._report(listing, copies, cycles, verified, time.monotonic() - began)
            if report.recorded and self._main is not None:
                self._main.note_restored(copies)
        return report

    # ---- before anything is written ---------------------------------------------------------

    def _look(self) -> Listing:
        """The replica's collections; refuse what must not be copied, or not to this server."""
        for server in (self._source, self._target):
            server.capabilities()
        listing = self._on_replica()
        there = self._on_target()
        self._refuse_known(listing, there)
        self._refuse_strangers(listing, there)
        self._refuse_missing(listing)
        return listing

    def _on_replica(self) -> Listing:
        try:
            return list_primary(self._source, self._settings.scope)
        except NotFound as error:
            raise _nothing(
                "The replica has none of the databases that the settings name."
            ) from error

    def _on_target(self) -> list[Collection]:
        """All collections of the new server in the tenants of the settings, marks included."""
        found: list[Collection] = []
        for tenant in self._settings.sync_tenants:
            with suppress(NotFound):  # the tenant is created when its first collection is
                for database in self._target.list_databases(tenant):
                    found += self._target.list_collections(tenant, database)
        return found

    def _refuse_known(self, listing: Listing, there: Sequence[Collection]) -> None:
        ids = [collection.id for collection in there]
        met = {} if self._main is None else self._main.sides_of(ids)
        if any(i in listing.collections or met.get(i) is Side.REPLICA for i in ids):
            raise self._not_new("is the replica")
        if Side.PRIMARY in met.values():
            raise self._not_new("is the primary, or was it")

    def _not_new(self, what: str) -> GuardRefusal:
        return GuardRefusal(
            f"The server at {self._url} {what}.",
            untouched=NOTHING_WRITTEN,
            hint="Give the URL of a new, empty server.",
        )

    def _refuse_strangers(self, listing: Listing, there: Sequence[Collection]) -> None:
        """Raise if the new server has a collection that no earlier run of this restore created."""
        own, has_run = self._own()
        places = listing.by_place()
        strangers = [
            place_of(collection)
            for collection in there
            if collection.id not in own
            # a run that was killed may have created a collection without recording it
            and not (
                has_run and place_of(collection) in places and not self._target.count(collection)
            )
        ]
        if strangers:
            names = _some(["/".join(place) for place in strangers])
            raise GuardRefusal(
                f"The server at {self._url} is not empty: it has {names}.",
                untouched=NOTHING_WRITTEN,
                hint="A restore needs a server without collections. To continue a restore, run it "
                "with the SYNC_DATA_DIR of its first run.",
            )

    def _own(self) -> tuple[set[str], bool]:
        """The copies that earlier runs created, and whether there was such a run."""
        if not store_exists(self._settings.store):
            return set(), False
        with closing(open_store(self._settings.store)) as state:
            return set(_copies(state)), bool(state.cycles(1))

    def _refuse_missing(self, listing: Listing) -> None:
        names = {collection.name for collection in listing.collections.values()}
        missing = [name for name in self._names if name not in names]
        if missing:
            what = f"The replica has no collection {', '.join(map(repr, missing))}."
        elif listing.missing:
            lacking = [f"{gone.tenant}/{gone.database or '*'}" for gone in listing.missing]
            what = f"The replica does not have these databases: {', '.join(lacking)}."
        elif not any(map(self._settings.scope.wants, names)):
            what = "The replica has no collection that could be copied."
        else:
            return
        raise _nothing(what)

    # ---- the pause of the service -----------------------------------------------------------

    @contextmanager
    def _service_paused(self, progress: Progress) -> Iterator[None]:
        """Let no process of the service write to the replica during the block.

        Only a pause of a restore to this server is ended, also that of a run that was killed.
        """
        main = self._main
        if main is None:
            yield
            return
        reason = f"restore to {self._url}"
        if main.direction().is_following and not main.orders().paused:
            main.pause(operator_name(), reason)
            progress.note("All processes of this state store are paused until the restore ends.")
        try:
            self._wait_until_still(main, progress)
            yield
        finally:
            orders = main.orders()
            if orders.paused and orders.row.pause_reason == reason:
                main.resume()

    def _wait_until_still(self, main: Store, progress: Progress) -> None:
        """Wait until no process writes to the replica; no lease outlives this wait."""
        began = time.monotonic()
        longest = max(self._settings.sync_lease_seconds, self._settings.sync_lead_seconds)
        progress.start("waiting for work in progress", None)
        while (waited := time.monotonic() - began) < longest + OBEYED_SECONDS:
            at_work, alive = _is_at_work(main), _is_alive(main)
            if not at_work and (not alive or waited >= OBEYED_SECONDS):
                return
            time.sleep(NAP_SECONDS)

    # ---- the copy ---------------------------------------------------------------------------

    def _participant(self, state: Store) -> Participant:
        return Participant(
            self._source,
            self._target,
            state,
            self._settings,
            patience_seconds=PATIENT_LEADS * self._settings.sync_lead_seconds,
        )

    def _copy(
        self, participant: Participant, progress: Progress
    ) -> tuple[list[CycleReport], VerifyReport]:
        """Cycles until both servers are the same, two at most; and the last comparison."""
        verifier = Verifier(self._source, self._target, self._settings, queries=QUERIES)
        cycles = [participant.run_cycle(progress)]
        verified = verifier.verify(progress)
        if verified.different:
            cycles.append(participant.run_cycle(progress, full=True))
            verified = verifier.verify(progress, repaired=True)
        return cycles, verified

    def _report(
        self,
        listing: Listing,
        copies: Mapping[str, str],
        cycles: Sequence[CycleReport],
        verified: VerifyReport,
        duration_seconds: float,
    ) -> RestoreReport:
        follows = self._main is not None and self._main.direction().is_following
        copied = set(copies.values())
        left_out = sorted(
            "/".join(place_of(c))
            for c in listing.collections.values()
            if c.id not in copied and BUILDING_MARK not in c.name and not c.name.startswith(UNMADE)
        )
        return RestoreReport(
            url=self._url,
            replica_url=self._settings.primary_url,
            state_file=str(self._settings.store.path),
            collections=tuple(map(_restored, verified.collections)),
            left_out=tuple(left_out),
            written=sum(r.counts.inserted + r.counts.updated + r.counts.replaced for r in cycles),
            cycles=len(cycles),
            cycle_code=cycles[-1].exit_code,
            recorded=verified.exit_code == 0 and follows,
            warnings=(*self._circumstances(), *_notes(cycles[-1])),
            duration_seconds=duration_seconds,
        )

    def _circumstances(self) -> Iterator[str]:
        if self._main is None:
            yield UNPAUSED
        elif not self._main.direction().is_following:
            yield PROMOTED
        elif not self._main.orders().paused:
            yield "Someone ended the pause during the restore, so the replica may have changed."


def _nothing(what: str) -> SettingsError:
    return SettingsError(
        what,
        untouched="Nothing was written to the new server.",
        hint="Check REPLICA_URL, --collection, SYNC_TENANTS, SYNC_DATABASES, SYNC_INCLUDE and "
        "SYNC_EXCLUDE.",
    )


def _notes(last: CycleReport) -> list[str]:
    """What the last cycle found, with a key to its words."""
    held = [f"{hold.collection_name} is held: {hold.reason}." for hold in last.holds]
    failed = [
        f"{collection.name}: {collection.message}"
        for collection in last.collections
        if collection.status is not MirrorStatus.IDENTICAL and collection.message
    ]
    found = [*last.warnings, *held, *failed]
    return [ROLES, *found] if found else []


def _restored(verified: VerifiedCollection) -> RestoredCollection:
    records = verified.missing + verified.extra + verified.changed
    return RestoredCollection(
        verified.tenant,
        verified.database,
        verified.name,
        verified.same,
        records + verified.definition_differs + verified.answers_differ,
        verified.inconclusive,
        verified.queries,
    )


def _copies(state: Store) -> dict[str, str]:
    """Each copy on the new server with the collection of the replica that it was made from."""
    return {m.replica_id: m.collection_id for m in state.mirrors() if m.replica_id is not None}


def _is_at_work(store: Store) -> bool:
    """Whether a cycle is in progress, or a task."""
    newest = store.cycles(1)
    if not newest:
        return False
    led = newest[0].status is CycleStatus.RUNNING and store.leader() is not None
    working = store.task_counts(newest[0].id).processing > 0
    return led or (working and not all(has_ended(w.worker_id) for w in store.workers()))


def _is_alive(store: Store) -> bool:
    """Whether a process of the service is alive, which may not have seen the pause yet."""
    return store.leader() is not None or store.active_workers() > 0


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown
