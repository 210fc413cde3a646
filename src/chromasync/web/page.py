"""The page of a deployment: settings and a state store become a site that is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from chromasync.advice.cached import CachedAdvice
from chromasync.config import Settings
from chromasync.guard import approve_chosen, choose_holds
from chromasync.model import Hold
from chromasync.ports import Store
from chromasync.status import take_snapshot
from chromasync.store import open_store
from chromasync.web.access import Access
from chromasync.web.process import Process
from chromasync.web.server import serving
from chromasync.web.site import Site
from chromasync.web.snapshots import SnapshotCache


class StoreOperator:
    """Carries out what was asked for on the page, in the state store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pause(self, who: str, reason: str, seconds: float | None) -> None:
        """Pause all processes."""
        self._store.pause(who, reason, seconds)

    def resume(self) -> None:
        """End the pause."""
        self._store.resume()

    def want_cycle(self, who: str) -> None:
        """Ask for a cycle that begins from now on."""
        self._store.want_cycle(who)

    def approve_set(self, collection_id: str, digest: str) -> Sequence[Hold]:
        """Approve exactly the held set with this digest."""
        chosen = choose_holds(self._store.holds(), [f"{collection_id}@{digest}"])
        return approve_chosen(self._store.approve, chosen)


@contextmanager
def open_page(settings: Settings, process: Process | None = None) -> Iterator[str]:
    """Serve the page at the address of the settings during the block; gives its URL.

    Args:
        process: the process of the service around it; None in one that only shows.

    Raises:
        SettingsError: nobody can listen there.
        StoreError: the state store cannot be opened.
    """
    token = settings.sync_http_token
    access = Access(None if token is None else token.get_secret_value(), settings.sync_http_host)
    with closing(open_store(settings.store)) as store:
        snapshots = SnapshotCache(lambda: take_snapshot(store, settings))
        advice = CachedAdvice(lambda: snapshots.look().snapshot, store.measurements, settings)
        site = Site(
            snapshots,
            access,
            StoreOperator(store),
            process=process,
            measure=store.measurements,
            advice=advice.sentences,
            collections=settings.sync_metrics_collections,
        )
        port = settings.sync_http_port or 0
        with serving(site, settings.sync_http_host, port, protected=not access.is_open) as url:
            yield url
