"""Work for a process to be killed in: a first copy, and changes of every kind."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.exports import import_again
from tests.support.stage import Stage, drop, fill, vectors

SETTINGS = {"SYNC_CHUNK_SIZE": "25"}


def arrange_first_copy(stage: Stage) -> None:
    """Two collections of several chunks that the replica lacks."""
    stage.create("docs", count=110)
    stage.create("notes", space="l2", count=60)


def arrange_changes(stage: Stage) -> None:
    """An identical pair, and then every kind of change on the primary.

    One collection vanished a cycle ago, so that the next one may drop it.
    """
    for name in ("docs", "remade", "again", "measured", "left", "right", "old-name", "gone"):
        stage.create(name, count=60)
    stage.sync(**SETTINGS)
    drop(stage.primary, "gone")
    stage.sync(**SETTINGS)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    fill(docs, 60, start=60)
    docs.delete(ids=[f"r{n}" for n in range(10, 20)])
    docs.update(ids=["r0", "r59"], embeddings=vectors(2, seed=7), documents=["new", ""])
    docs.update(ids=["r30", "r31"], metadatas=[{"n": None}, {"n": "a text now"}])
    docs.delete(ids=["r40", "r41"])
    docs.add(ids=["r40", "r41"], embeddings=vectors(2, seed=8))
    docs.delete(ids=["r21"])
    fill(docs, 1, start=21, seed=9)
    remake(stage, "remade", 60, dimension=5)
    remake(stage, "measured", 60, space="ip")
    import_again(stage, "again")
    swap_names(stage, "left", "right")
    stage.primary.get_collection("old-name", embedding_function=None).modify(name="new-name")


def remake(
    stage: Stage, name: str, count: int, *, space: str = "cosine", dimension: int = 8
) -> None:
    """Drop a collection of the primary and create another one of that name, with the same ids."""
    drop(stage.primary, name)
    fill(stage.create(name, space=space), count, dimension=dimension)


def swap_names(stage: Stage, one: str, other: str) -> None:
    """Two collections of the primary change names."""
    left = stage.primary.get_collection(one, embedding_function=None)
    right = stage.primary.get_collection(other, embedding_function=None)
    left.modify(name="meanwhile")
    right.modify(name=one)
    left.modify(name=other)


Scene = Callable[[Stage], None]
