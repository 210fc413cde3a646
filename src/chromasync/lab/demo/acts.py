"""The acts: each changes something on the primary, lets a cycle run, and looks at the replica.

An act is a generator. It changes the primary and yields one sentence about it; the report of the
cycle is sent in; it returns what it then saw on the replica through the official client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chromasync.lab.demo.corpus import LANGUAGE, LIBRARY, MODULES, Passage
from chromasync.lab.demo.show import Seen
from chromasync.lab.demo.stage import SPACES, Stage, put
from chromasync.lab.judge import (
    collections_of,
    definition_of,
    records_by_id,
    same_embedding,
    same_metadata,
)
from chromasync.reports import CycleReport, Outcome

if TYPE_CHECKING:  # the official client takes a second to import
    from chromadb import Collection

Act = Generator[str, CycleReport, list[Seen]]

HELD_BACK = 40
"""The last passages of `library-docs` are kept out of the first copy, to be added later."""
RENAMED = "module-catalogue"
NEW_TEXT = (
    "Marzipan is made of ground almonds and sugar, and keeps for weeks in a cool cupboard. "
    "This sentence was put in the place of a docstring by the demo."
)
NEW_NAMES = ["almonds", "sugar", "rose water"]
NEW_URI = "pydoc:marzipan"


@dataclass(frozen=True, slots=True)
class Scene:
    """One act with its heading."""

    title: str
    play: Callable[[Stage], Act]


def copied(stage: Stage, report: CycleReport) -> list[Seen]:
    """The content of the replica after the first copy."""
    seen = [_ended_well(report)]
    for name in SPACES:
        ours, theirs = stage.on_primary(name), stage.on_replica(name)
        same = definition_of(ours) == definition_of(theirs) and ours.count() == theirs.count()
        distance = definition_of(theirs)["space"]
        seen.append(
            Seen(f"{name}: {theirs.count():,} records under the distance {distance!r}.", same)
        )
    return seen


def add(stage: Stage) -> Act:
    """The reserved passages are added to the primary."""
    before = stage.on_replica(LIBRARY).count()
    new = stage.corpus[LIBRARY][-HELD_BACK:]
    put(stage.on_primary(LIBRARY), new, stage.embed)
    report = yield f"{len(new)} passages were added to {LIBRARY}."
    replica = stage.on_replica(LIBRARY)
    found = records_by_id(replica, [passage.id for passage in new])
    arrived = sum(_equals(found.get(passage.id), passage) for passage in new)
    example = found.get(new[0].id, {}).get("document") or "nothing"
    return [
        _ended_well(report),
        Seen(
            f"{arrived} of them are there with text, metadata and uri as given; “{new[0].id}” "
            f"begins “{_beginning(example)}”.",
            arrived == len(new),
        ),
        Seen(
            f"{LIBRARY} now counts {replica.count():,} records, {before:,} before.",
            replica.count() == before + len(new),
        ),
        _applied(report, inserted=len(new)),
    ]


def edit(stage: Stage) -> Act:
    """New text, new metadata, a removed key and a changed uri."""
    module, count = _a_module(stage, fewest=10)
    text_id, key_id, uri_id = _to_edit(stage, module)
    library, language = stage.on_primary(LIBRARY), stage.on_primary(LANGUAGE)
    reviewed = library.get(where={"module": module}, include=[])["ids"]
    library.update(ids=reviewed, metadatas=[{"reviewed": True, "part": 7.5} for _ in reviewed])
    library.update(
        ids=[text_id],
        documents=[NEW_TEXT],
        embeddings=stage.embed([NEW_TEXT]),
        metadatas=[{"names": list(NEW_NAMES)}],
    )
    language.update(ids=[key_id], metadatas=[_nothing("has_example")])
    language.update(ids=[uri_id], uris=[NEW_URI])
    report = yield (
        f"“{text_id}” got another text and embedding; all {count} passages of the module "
        f"{module!r} were marked as reviewed; one passage of {LANGUAGE} lost the metadata key "
        "'has_example', another got a new uri."
    )
    return [
        _ended_well(report),
        *_see_new_text(stage, text_id),
        *_see_metadata(stage, module, count),
        *_see_small_edits(stage, key_id, uri_id),
        _applied(report, updated=count + 3),
    ]


def delete(stage: Stage) -> Act:
    """All passages of one module disappear."""
    module, count = _a_module(stage, fewest=5, skip=1)
    primary = stage.on_primary(LIBRARY)
    gone = primary.get(where={"module": module}, include=[])["ids"]
    before = primary.count()
    primary.delete(ids=gone)
    report = yield f"All {count} passages of the module {module!r} were deleted from {LIBRARY}."
    replica = stage.on_replica(LIBRARY)
    left = len(replica.get(ids=gone, include=[])["ids"])
    return [
        _ended_well(report),
        Seen(f"Asked for these {len(gone)} ids, the replica finds {left} of them.", left == 0),
        Seen(
            f"{LIBRARY} now counts {replica.count():,} records, {before:,} before.",
            replica.count() == before - len(gone) and len(gone) == count,
        ),
        _applied(report, deleted=len(gone)),
    ]


def rename(stage: Stage) -> Act:
    """A collection gets another name."""
    before = stage.on_replica(MODULES)
    count = before.count()
    stage.on_primary(MODULES).modify(name=RENAMED)
    report = yield f"The collection {MODULES} was renamed to {RENAMED}."
    names = collections_of(stage.replica)
    renamed = names.get(RENAMED)
    return [
        _ended_well(report),
        Seen(f"The replica lists {', '.join(sorted(names))}.", MODULES not in names),
        Seen(
            f"{RENAMED} is the same collection as before, with its {count:,} records: "
            "nothing was copied again.",
            renamed is not None and renamed.id == before.id and renamed.count() == count,
        ),
        _applied(report),
    ]


def rest(stage: Stage) -> Act:
    """Nothing changes."""
    total = sum(collection.count() for collection in collections_of(stage.primary).values())
    report = yield "Nothing was changed."
    return [
        _ended_well(report),
        Seen(
            f"The cycle read {report.counts.read:,} records of the primary's {total:,}.",
            report.counts.read == total,
        ),
        _applied(report),
    ]


SCENES = (
    Scene("Adding", add),
    Scene("Editing", edit),
    Scene("Deleting", delete),
    Scene("Renaming", rename),
    Scene("Leaving it alone", rest),
)


# ---- looking at the replica ------------------------------------------------------------------


def _see_new_text(stage: Stage, record_id: str) -> list[Seen]:
    replica = stage.on_replica(LIBRARY)
    record = _record(replica, record_id)
    original = _record(stage.on_primary(LIBRARY), record_id)
    question = "almonds and sugar"
    hits = replica.query(query_embeddings=stage.embed([question]), n_results=1, include=[])["ids"]
    first = hits[0][0] if hits[0] else "nothing"
    document = record["document"] or "nothing"
    names = (record["metadata"] or {}).get("names")
    return [
        Seen(f"“{record_id}” now reads “{_beginning(document)}”.", document == NEW_TEXT),
        Seen(
            f"A search for “{question}” finds “{first}” first.",
            first == record_id
            and same_embedding(original["embedding"], record["embedding"], SPACES[LIBRARY]),
        ),
        Seen(
            f"Its metadata 'names' is the list {names}.",
            names == NEW_NAMES,
        ),
    ]


def _see_metadata(stage: Stage, module: str, count: int) -> list[Seen]:
    found = stage.on_replica(LIBRARY).get(where={"reviewed": True}, include=["metadatas"])
    parts = {repr((metadata or {}).get("part")) for metadata in found["metadatas"] or []}
    return [
        Seen(
            f"{len(found['ids'])} passages of {module!r} are marked as reviewed, and 'part' went "
            f"from a whole number to {', '.join(sorted(parts))}.",
            len(found["ids"]) == count and parts == {"7.5"},
        )
    ]


def _see_small_edits(stage: Stage, key_id: str, uri_id: str) -> list[Seen]:
    replica = stage.on_replica(LANGUAGE)
    keys = sorted(_record(replica, key_id)["metadata"] or {})
    uri = _record(replica, uri_id)["uri"]
    before = _passage(stage, LANGUAGE, key_id).metadata
    return [
        Seen(
            f"“{key_id}” has the metadata keys {', '.join(keys)}.",
            keys == sorted(before.keys() - {"has_example"}),
        ),
        Seen(f"“{uri_id}” has the uri {uri}.", uri == NEW_URI),
    ]


def _ended_well(report: CycleReport) -> Seen:
    when = report.identical_as_of
    instant = f" as of {when:%H:%M:%S} UTC" if when else ""
    return Seen(
        f"The cycle ended after {report.duration_seconds:.2f} s: {report.outcome.value}{instant}.",
        report.outcome is Outcome.IDENTICAL,
    )


def _record(collection: Collection, record_id: str) -> dict[str, Any]:
    """The record, or one without anything in it."""
    nothing = dict.fromkeys(("embedding", "document", "metadata", "uri"))
    return records_by_id(collection, [record_id]).get(record_id, nothing)


def _applied(report: CycleReport, *, inserted: int = 0, updated: int = 0, deleted: int = 0) -> Seen:
    """The observation that the cycle changed these records and no others."""
    counts = report.counts
    done = (counts.inserted, counts.updated + counts.replaced, counts.deleted)
    words = [
        f"{n} {word}" for n, word in zip(done, ("inserted", "updated", "deleted"), strict=True) if n
    ]
    return Seen(
        f"Records written: {', '.join(words) or 'none'}.", done == (inserted, updated, deleted)
    )


def _equals(record: dict[str, Any] | None, passage: Passage) -> bool:
    return record is not None and (
        record["document"] == passage.text
        and record["uri"] == passage.uri
        and same_metadata(record["metadata"] or {}, passage.metadata)
    )


# ---- choosing what to change -----------------------------------------------------------------


def _a_module(stage: Stage, *, fewest: int, skip: int = 0) -> tuple[str, int]:
    """A module with a suitable number of passages on the primary, always the same."""
    present = stage.on_primary(LIBRARY).get(include=["metadatas"])["metadatas"] or []
    counts = Counter(str(metadata["module"]) for metadata in present if metadata)
    handy = sorted(counts.items(), key=lambda item: (not fewest <= item[1] <= 90, item[0]))
    return handy[skip]


def _to_edit(stage: Stage, module: str) -> tuple[str, str, str]:
    """One passage for each edit, none of them in `module`."""
    other = [p.id for p in stage.corpus[LIBRARY][:-HELD_BACK] if p.metadata["module"] != module]
    language = stage.corpus[LANGUAGE]
    return other[len(other) // 2], language[10].id, language[20].id


def _passage(stage: Stage, collection: str, record_id: str) -> Passage:
    return next(passage for passage in stage.corpus[collection] if passage.id == record_id)


def _nothing(key: str) -> dict[str, Any]:
    """Metadata that removes a key."""
    return {key: None}


def _beginning(text: str, words: int = 9) -> str:
    return " ".join(text.split()[:words]) + " …"


def hits_of(
    stage: Stage, collection: str, question: str, count: int
) -> tuple[Sequence[tuple[str, float]], Sequence[tuple[str, float]]]:
    """The nearest records on both sides, each with its distance."""
    embedding = stage.embed([question])
    sides = []
    for side in (stage.on_primary(collection), stage.on_replica(collection)):
        got = side.query(query_embeddings=embedding, n_results=count, include=["distances"])
        distances = (got["distances"] or [[]])[0]
        sides.append(list(zip(got["ids"][0], map(float, distances), strict=True)))
    return sides[0], sides[1]
