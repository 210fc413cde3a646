"""The place of a state store: a text, taken apart once for all who open, show or pass it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from chromasync.config.folders import file_name_of, folder_of
from chromasync.config.shown import shown_database
from chromasync.errors import SettingsError

_SQLITE = "sqlite:///"


def own_state_file(primary_url: str, replica_url: str) -> str:
    """The name of the replica's own state file; empty if it has none.

    A folder is used by single commands, often beside a service in the same place, and one primary
    may have several backups. So each replica has a state file of its own if one side is a folder.
    """
    if not replica_url or (folder_of(primary_url) is None and folder_of(replica_url) is None):
        return ""
    return _own_name(replica_url)


def _own_name(replica_url: str) -> str:
    return f"chromasync-{file_name_of(replica_url)}.db"


def state_file(folder: Path, usual: str, primary_url: str, replica_url: str) -> Path:
    """The state file of a pair.

    A restore may leave out the primary, which is dead. Then the replica's own file is taken if it
    is there, because the primary may have been a folder.

    Args:
        folder: SYNC_DATA_DIR.
        usual: the file's name if the replica has none of its own.
    """
    own = folder / _own_name(replica_url)
    if replica_url and not primary_url and own.exists():
        return own
    return folder / (own_state_file(primary_url, replica_url) or usual)


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A state file, or a PostgreSQL database.

    Attributes:
        url: `sqlite:///PATH`, or the URL of the database as libpq takes it, with its password.
        path: the state file; None for a database.
    """

    url: str = field(repr=False)
    path: Path | None = None

    @classmethod
    def parse(cls, place: str | PathLike[str]) -> StorePlace:
        """The place for a file, `sqlite:///file` (relative), `sqlite:////file` or a database's URL.

        Raises:
            SettingsError: no state store can be there.
        """
        text = str(place)
        scheme, separator, rest = text.partition("://")
        if scheme.startswith("postgres") and separator:
            return cls(text)
        path = text
        if separator:
            path = rest.removeprefix("/") if text.startswith(_SQLITE) else ""
        if not path or path == ":memory:" or "\0" in path:
            raise _unusable(scheme)
        return cls.file(Path(path))

    @classmethod
    def file(cls, path: Path) -> StorePlace:
        """The place of a state file."""
        return cls(f"{_SQLITE}{path}", path)

    @property
    def shown(self) -> str:
        """The place without secrets: host, port and database, or the file."""
        return shown_database(self.url)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if self.path is not None else "postgresql"

    def absolute(self) -> StorePlace:
        """The same place, valid in any folder."""
        return self if self.path is None else self.file(self.path.absolute())


def _unusable(scheme: str) -> SettingsError:
    return SettingsError(
        f"A state store cannot be opened by a URL like {scheme}://…; allowed are a file,"
        " sqlite:///file or postgresql://….",
        untouched="Nothing was started.",
        hint="Leave DATABASE_URL unset to use a SQLite file under SYNC_DATA_DIR.",
    )
