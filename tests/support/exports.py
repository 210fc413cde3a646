"""Collections that are exported and imported again: same name, same records, another id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.stage import Stage, drop

if TYPE_CHECKING:
    from chromadb import Collection

COLUMNS = ("embeddings", "documents", "metadatas", "uris")


def import_again(
    stage: Stage,
    name: str = "docs",
    *,
    space: str = "cosine",
    keep: Callable[[int], bool] = lambda _: True,
) -> Collection:
    """Drop a collection of the primary and make it anew, with the records that `keep` names.

    They come in another order, as an export may give them.
    """
    source: Any = stage.primary.get_collection(name, embedding_function=None)
    got = source.get(include=list(COLUMNS))
    rows = [row for row in reversed(range(len(got["ids"]))) if keep(row)]
    drop(stage.primary, name)
    made: Any = stage.create(name, space=space)
    for start in range(0, len(rows), 500):
        some = rows[start : start + 500]
        made.add(**{column: [got[column][row] for row in some] for column in ("ids", *COLUMNS)})
    again: Collection = made
    return again
