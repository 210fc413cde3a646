"""What a collection is in effect, in every shape Chroma ever described it; no server needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chromasync.definition import (
    changeable,
    configuration_change,
    creatable,
    effective,
    immutable_differences,
)
from chromasync.model import Capabilities, Collection, Space

MODERN = Capabilities(
    "1", 5461, base64=True, schema=True, configuration=True, arrays=True, null_columns=True
)
MIDDLE = replace(MODERN, schema=False, arrays=False)
OLD = replace(MIDDLE, base64=False, configuration=False)
FUNCTION = {"type": "known", "name": "default", "config": {}}


def collection(**parts: Any) -> Collection:
    return Collection("id", "name", "t", "d", **parts)


def hnsw(**settings: Any) -> dict[str, Any]:
    return {"hnsw": settings, "spann": None, "embedding_function": None}


def schema(keys: dict[str, Any] | None = None, **vector: Any) -> dict[str, Any]:
    index = {"enabled": True, "config": {"space": "l2", "hnsw": {}} | vector}
    standard = {
        "#embedding": {"float_list": {"vector_index": index}},
        "#document": {
            "string": {
                "fts_index": {"enabled": True, "config": {}},
                "string_inverted_index": {"enabled": False, "config": {}},
            }
        },
    }
    defaults = {
        "string": {"fts_index": {"enabled": False}, "string_inverted_index": {"enabled": True}},
        "float_list": {"vector_index": {"enabled": False}},
        "int": {"int_inverted_index": {"enabled": True}},
    }
    return {"defaults": defaults, "keys": standard | (keys or {})}


SHAPES = {
    "present": collection(configuration=hnsw(space="cosine", ef_construction=55, max_neighbors=8)),
    "legacy": collection(configuration={"hnsw_configuration": {
        "space": "cosine", "ef_construction": 55, "M": 8}}),
    "metadata": collection(metadata={"hnsw:space": "cosine", "hnsw:construction_ef": 55,
                                     "hnsw:M": 8, "other": 1}),
    "metadata over defaults": collection(
        metadata={"hnsw:space": "cosine", "hnsw:construction_ef": 55, "hnsw:M": 8},
        configuration=hnsw(space="l2", ef_construction=100, max_neighbors=16)),
    "schema": collection(schema=schema(
        space="cosine", hnsw={"ef_construction": 55, "max_neighbors": 8})),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_means_the_same(shape: str) -> None:
    """The same index described in any shape has the same effect."""
    found = effective(SHAPES[shape])
    assert (found.space, found.ef_construction, found.max_neighbors) == (Space.COSINE, 55, 8)
    assert found.ef_search == 100


def test_nothing_said_means_the_defaults() -> None:
    """A collection without any description is an l2 index with Chroma's defaults."""
    found = effective(collection())
    assert (found.space, found.index, found.ef_construction) == (Space.L2, "hnsw", 100)
    nonsense = effective(collection(metadata={"hnsw:space": "odd", "hnsw:M": "many"}))
    assert nonsense == found


def test_a_later_change_of_configuration_outranks_old_metadata() -> None:
    """ef_search changed after creation counts, although the metadata still has the old value."""
    changed = collection(metadata={"hnsw:search_ef": 44}, configuration=hnsw(ef_search=200))
    assert effective(changed).ef_search == 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("server", [MODERN, MIDDLE, OLD], ids=["modern", "middle", "old"])
def test_what_is_created_has_the_same_effect(shape: str, server: Capabilities) -> None:
    """Whatever the primary's shape and the replica's age, the effect is carried over."""
    primary = SHAPES[shape]
    made, missing = creatable(primary, server)
    twin = collection(
        metadata=made.metadata, configuration=made.configuration or {}, schema=made.schema
    )
    assert replace(effective(twin), indexes=frozenset()) == effective(primary)
    assert immutable_differences(primary, twin, server) == ()
    assert configuration_change(primary, twin, server) == {}
    assert missing == ()
    assert made.metadata.items() >= primary.metadata.items()


def test_what_cannot_be_carried_is_said() -> None:
    """An embedding function or a switched index that an old server cannot take is named."""
    off = {"notes": {"string": {"string_inverted_index": {"enabled": False}}}}
    primary = collection(
        configuration=hnsw(space="ip") | {"embedding_function": FUNCTION},
        schema=schema(off, space="ip"),
    )
    assert creatable(primary, MODERN)[1] == ()
    assert "notes/string_inverted_index=off" in " ".join(creatable(primary, MIDDLE)[1])
    assert "embedding function" in " ".join(creatable(primary, OLD)[1])
    assert creatable(primary, MODERN)[0].schema == primary.schema
    assert creatable(primary, MIDDLE)[0].schema is None
    assert creatable(primary, OLD)[0].metadata == {"hnsw:space": "ip"}


def test_keys_that_writes_added_to_a_schema_are_no_difference() -> None:
    """Only indexes that a person switched count; keys that repeat the defaults do not."""
    grown = schema({"seen": {"int": {"int_inverted_index": {"enabled": True}}}})
    off = schema({"seen": {"int": {"int_inverted_index": {"enabled": False}}}})
    assert effective(collection(schema=schema())) == effective(collection(schema=grown))
    difference = immutable_differences(collection(schema=off), collection(schema=grown), MODERN)
    assert "seen/int_inverted_index=off" in " ".join(difference)
    assert immutable_differences(collection(schema=off), collection(), MIDDLE) == ()


def test_differences_are_sorted_by_what_can_be_changed() -> None:
    """Distance and ef_construction need a new collection; the rest is sent as a change."""
    primary = collection(
        configuration=hnsw(space="ip", ef_construction=50, ef_search=70)
        | {"embedding_function": FUNCTION}
    )
    replica = collection(configuration=hnsw(space="l2", max_neighbors=9))
    assert len(immutable_differences(primary, replica, MODERN)) == 2
    assert configuration_change(primary, replica, MODERN) == {
        "hnsw": {"ef_search": 70, "max_neighbors": 16},
        "embedding_function": FUNCTION,
    }
    assert configuration_change(primary, replica, OLD) == {}


def test_only_changeable_settings_are_sent() -> None:
    """What Chroma refuses to change on a living collection is left out of a change."""
    whole = hnsw(space="ip", ef_construction=50, ef_search=70, max_neighbors=None)
    assert changeable(whole) == {"hnsw": {"ef_search": 70}}
    assert changeable({"spann": {"search_nprobe": 3, "space": "l2"}}) == {
        "spann": {"search_nprobe": 3}
    }
    assert changeable(hnsw(space="l2")) == {}
