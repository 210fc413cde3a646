"""The desk: what people ask of the state store alone; no server is asked.

Only `advise` needs more than the store, and loads it when it is called, because a look at the
status must be quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from chromasync.config import Settings
from chromasync.errors import SettingsError
from chromasync.guard import approve_chosen, choose_holds, refuse_unseen
from chromasync.model import Hold
from chromasync.ports import Store
from chromasync.processes import operator_name
from chromasync.reports import ControlReport, CycleReport, StatusSnapshot
from chromasync.status import take_snapshot
from chromasync.store import open_store, store_exists

if TYPE_CHECKING:
    from chromasync.advice_reports import AdviceReport


def no_store(settings: Settings, untouched: str) -> SettingsError:
    """The error of a command that needs a state store where there is none."""
    return SettingsError(
        f"There is no state store at {settings.store.shown}.",
        untouched=untouched,
        hint="Go to the service's folder, or set SYNC_DATA_DIR or DATABASE_URL.",
    )


class Desk:
    """The commands that need the state store only; it is opened on first use."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.settings = settings
        self._stack = stack
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The state store, opened on first use; raises StoreError or SettingsError."""
        if self._store is None:
            store = open_store(self.settings.store)
            self._stack.callback(store.close)
            self._store = store
        return self._store

    def status(self) -> StatusSnapshot:
        """The state in the store; no server is asked."""
        return take_snapshot(self._store_to_look_at(), self.settings)

    def advise(
        self,
        documents: int | None = None,
        *,
        dimension: int | None = None,
        text_bytes: int | None = None,
    ) -> AdviceReport:
        """Which phase of the guide fits, and what to change; recorded when it has changed.

        Args:
            documents: also forecast what so many documents would take.
            dimension, text_bytes: the average size of these documents; as measured by default.

        Raises:
            SettingsError: the table that SYNC_ADVICE_TABLE names cannot be used.
            StoreError: the store cannot be used.
        """
        from chromasync.advice import HISTORY_SECONDS, Asked, advise
        from chromasync.advice.recorded import recommendation_of

        store = self._store_to_look_at()
        asked = None if documents is None else Asked(documents, dimension, text_bytes)
        measured = store.measurements(HISTORY_SECONDS)
        report = advise(take_snapshot(store, self.settings), measured, self.settings, asked)
        if not report.is_enough:
            return report
        noted = store.note_recommendation(recommendation_of(report))
        return replace(report, since=noted.created_at)

    def approve(
        self, names: Sequence[str], *, everything: bool, expected: int | None = None
    ) -> list[Hold]:
        """Approve the present holds of these collections (or all holds), once.

        Args:
            names: names of collections, optionally with a digest (`docs@3f9a`).
            expected: the number of held records; without it, the number that was shown last.

        Raises:
            ChromasyncError: nothing is held under one of the names, or the hold has changed.
            SettingsError: several collections have a name, or there is no state store.
        """
        if not self._has_store():
            raise no_store(self.settings, "Nothing was approved.")
        holds = self.store.holds()
        if everything:
            refuse_unseen(holds, expected)
        chosen = holds if everything else choose_holds(holds, names, expected)
        return approve_chosen(self.store.approve, chosen)

    def pause(self, seconds: float | None = None, reason: str = "") -> ControlReport:
        """Pause all processes of this store for so many seconds, or until someone resumes.

        Raises:
            SettingsError: there is no state store.
            StoreError: the store cannot be reached, so nothing was paused.
        """
        if not self._has_store():
            raise no_store(self.settings, "Nothing was paused.")
        before = self.store.orders()
        row = self.store.pause(operator_name(), reason, seconds)
        return ControlReport(row, was_paused=before.paused, is_paused=True)

    def resume(self) -> ControlReport:
        """End the pause of all processes; the report has the pause that ended.

        Raises:
            SettingsError: there is no state store.
            StoreError: the store cannot be reached.
        """
        if not self._has_store():
            raise no_store(self.settings, "Nothing was resumed.")
        before = self.store.orders()
        self.store.resume()
        return ControlReport(before.row, was_paused=before.paused, is_paused=False)

    def note_shown(self, report: CycleReport | StatusSnapshot, *, watched: bool = True) -> None:
        """Remember the counts of holds that a person has seen; `approve` is valid for them.

        Args:
            watched: whether a person surely reads the output; otherwise counts that were shown
                before stay.
        """
        shown = [
            hold
            for hold in report.holds
            if hold.shown_count != hold.count and (watched or hold.shown_count is None)
        ]
        if shown:
            self.store.note_shown(shown)

    def _has_store(self) -> bool:
        return self._store is not None or store_exists(self.settings.store)

    def _store_to_look_at(self) -> Store:
        """The state store; before the first cycle, an empty one that leaves nothing behind."""
        if self._has_store():
            return self.store
        folder = self._stack.enter_context(TemporaryDirectory(prefix="chromasync-"))
        store = open_store(Path(folder) / "empty.db")
        self._stack.callback(store.close)
        return store
