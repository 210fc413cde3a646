"""The place of the self-test: the configured servers and store, or its own while it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from chromasync.chroma import ChromaReader, ChromaWriter, Connection
from chromasync.config import Settings
from chromasync.errors import NotFound, SettingsError
from chromasync.lab.chroma_server import ChromaServer, LocalServerError, loopback_without_proxy
from chromasync.lab.postgres_server import LocalPostgres, LocalPostgresError
from chromasync.model import MARKS_DATABASE, Side
from chromasync.ports import Store, Writer
from chromasync.reach import connection_of, refuse_folders
from chromasync.store import open_store
from chromasync.targeted import targeted_writer
from chromasync.trials import PREFIX, new_trial

USUAL_DATABASE = "default_database"
ATTEMPTS = 3
RETRY_SECONDS = 10.0
"""Limit for the self-test's own requests; it is shorter than the engine's."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Servers and store, ready for use.

    Attributes:
        own: the servers belong to the self-test and have no other content.
    """

    settings: Settings
    folder: Path
    own: bool

    @property
    def store_kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.settings.store.kind

    def connection(self, side: Side) -> Connection:
        """The connection of a server, with a shorter timeout than the engine's."""
        usual = connection_of(self.settings, side)
        return replace(usual, attempts=ATTEMPTS, retry_seconds=RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Stage:
    """All that the acts need.

    Attributes:
        application: changes the primary, as an application would.
        prefix: the name of this trial, the prefix of the names of its collections.
    """

    place: Place
    primary: ChromaReader
    application: ChromaWriter
    replica: Writer
    store: Store
    tenant: str
    database: str
    prefix: str

    @property
    def settings(self) -> Settings:
        """The settings of the place."""
        return self.place.settings

    @property
    def only_ours(self) -> Settings:
        """The settings of the place, for the self-test's own collections and nothing else."""
        return self.settings.model_copy(
            update={
                "sync_tenants": (self.tenant,),
                "sync_databases": (self.database,),
                "sync_include": (f"{self.prefix}*",),
                "sync_exclude": (),
            }
        )


@contextmanager
def find_place(settings: Settings, say: Say, *, sqlite: bool) -> Iterator[Place]:
    """The configured servers and store, or own ones when nothing is configured.

    Args:
        sqlite: an own store shall be SQLite, even where PostgreSQL is installed.

    Raises:
        SettingsError: some of the needed settings are missing.
        LocalServerError: no Chroma server is installed here, or it does not start.
    """
    configured = _is_configured(settings)
    refuse_folders(settings, "selftest")
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(made))
        if configured:
            say("The test uses the servers and the store of the settings.")
            yield Place(settings, folder, own=False)
        else:
            yield Place(_own_settings(stack, folder, say, sqlite=sqlite), folder, own=True)


@contextmanager
def open_stage(place: Place) -> Iterator[Stage]:
    """Connections to the servers and the store of a place.

    Raises:
        ServerError: a server cannot be reached, or is not Chroma.
        StoreError: the store cannot be used.
    """
    with (
        ChromaReader(place.connection(Side.PRIMARY)) as primary,
        ChromaWriter(place.connection(Side.PRIMARY), prefix=PREFIX) as application,
        ChromaWriter(place.connection(Side.REPLICA)) as server,
        ExitStack() as stack,
    ):
        replica = targeted_writer(server, place.settings)
        for asked in (primary, replica):
            asked.capabilities()
        store = open_store(place.settings.store)
        stack.callback(store.close)
        tenant, database = _first_database(primary, place.settings)
        yield Stage(place, primary, application, replica, store, tenant, database, new_trial())


def _is_configured(settings: Settings) -> bool:
    named = {
        "PRIMARY_URL": bool(settings.primary_url),
        "REPLICA_URL": bool(settings.replica_url),
        "DATABASE_URL": settings.database_url is not None,
    }
    servers = named["PRIMARY_URL"] and named["REPLICA_URL"]
    if servers or not any(named.values()):
        return servers
    present = " and ".join(name for name, given in named.items() if given)
    absent = [name for name in ("PRIMARY_URL", "REPLICA_URL") if not named[name]]
    missing, verb = " and ".join(absent), "is" if len(absent) == 1 else "are"
    raise SettingsError(
        f"{present} is set, but {missing} {verb} not.",
        untouched="Nothing was started.",
        hint="Set both URLs to test these servers, or none to let the test start its own.",
    )


def _own_settings(stack: ExitStack, folder: Path, say: Say, *, sqlite: bool) -> Settings:
    if find_spec("chromadb_rust_bindings") is None:
        raise LocalServerError(
            "No servers are configured, and no Chroma server is installed here to start.",
            untouched="Nothing was started.",
            hint="Set PRIMARY_URL and REPLICA_URL, or `pip install 'chromasync[demo]'`.",
        )
    stack.enter_context(loopback_without_proxy())
    primary, replica = (
        stack.enter_context(ChromaServer(folder / side.value))
        for side in (Side.PRIMARY, Side.REPLICA)
    )
    say("Nothing is configured, so two Chroma servers were started for this test.")
    store_url = None if sqlite else _own_postgres(stack, say)
    if store_url is None:
        store_url = f"sqlite:///{folder / 'chromasync.db'}"
        say("Their store is an SQLite file, which several processes of one machine may share.")
    return Settings(
        primary_url=primary.url,
        replica_url=replica.url,
        sync_data_dir=folder,
        database_url=SecretStr(store_url),
    )


def _own_postgres(stack: ExitStack, say: Say) -> str | None:
    """URL of our own PostgreSQL; None if it is not installed."""
    try:
        server = stack.enter_context(LocalPostgres(durable=False))
    except LocalPostgresError as error:
        say(error.what)
        return None
    say("Their store is a PostgreSQL server, started for this test as well.")
    return server.url


def _first_database(primary: ChromaReader, settings: Settings) -> tuple[str, str]:
    tenant = settings.sync_tenants[0]
    present = [name for name in primary.list_databases(tenant) if name != MARKS_DATABASE]
    if settings.sync_databases is not None:
        wanted = settings.sync_databases[0]
    else:
        wanted = next(iter(sorted(present, key=lambda name: name != USUAL_DATABASE)), "")
    if wanted not in present:
        raise NotFound(
            f"The primary has no database {wanted!r} in tenant {tenant!r}.",
            side=Side.PRIMARY,
            untouched="Nothing was written.",
            hint="Check SYNC_TENANTS and SYNC_DATABASES.",
        )
    return tenant, wanted
