"""Collections as real servers of five versions listed them (`listed_collections.json`).

Each version was asked for the same collections: `plain` says nothing; `legacy` asks for a cosine
index with `hnsw:*` metadata; `configured` asks for the same with a configuration (which 1.0.0
takes and ignores); `noindex` switches the index of text values off in its schema.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chromasync.chroma.decode import collection_answer
from chromasync.definition import (
    Effective,
    changeable,
    configuration_change,
    creatable,
    effective,
    immutable_differences,
    not_held,
    same_effect,
    without_legacy,
    without_sparse_indexes,
)
from chromasync.lab.fake import MODERN
from chromasync.model import Capabilities, Collection, Space

LISTED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("listed_collections.json").read_text(encoding="utf-8")
)
PRESENT = replace(MODERN, schema=False, arrays=False)
OLDEST = replace(PRESENT, base64=False, configuration=False)
ABILITIES = {
    "0.6.3": replace(OLDEST, null_columns=False),
    "1.0.0": OLDEST,
    "1.0.20": PRESENT,
    "1.3.0": replace(MODERN, arrays=False),
    "1.5.9": MODERN,
}

DEFAULT = Effective()
COSINE = Effective(space=Space.COSINE, ef_construction=55, max_neighbors=8)
NO_TEXT_INDEX = replace(DEFAULT, indexes=frozenset({"*/string_inverted_index=off"}))
EFFECTS = {
    **{(version, "plain"): DEFAULT for version in LISTED},
    **{(version, "legacy"): COSINE for version in LISTED},
    ("0.6.3", "configured"): replace(COSINE, ef_search=10),
    ("1.0.0", "configured"): DEFAULT,
    ("1.0.20", "configured"): COSINE,
    ("1.3.0", "configured"): COSINE,
    ("1.5.9", "configured"): COSINE,
    ("1.3.0", "noindex"): NO_TEXT_INDEX,
    ("1.5.9", "noindex"): NO_TEXT_INDEX,
}


def listed(version: str, case: str) -> Collection:
    """The collection as the transport reads it."""
    body = {"id": f"{version}-{case}", "tenant": "t", "database": "d", **LISTED[version][case]}
    return collection_answer(json.dumps(body).encode())


def written(collection: Collection, server: Capabilities) -> Collection:
    """What a server with these abilities holds after it was given the definition as created."""
    made, _ = creatable(collection, server)
    return Collection(
        "made", made.name, made.tenant, made.database, made.metadata,
        made.configuration or {}, made.schema,
    )  # fmt: skip


def test_every_listed_collection_is_in_the_table() -> None:
    """No real answer is left without an expectation."""
    assert {(version, case) for version in LISTED for case in LISTED[version]} == set(EFFECTS)


@pytest.mark.parametrize(("version", "case"), EFFECTS)
def test_a_listed_collection_has_the_effect_that_was_asked_for(version: str, case: str) -> None:
    """Each version's words are read into the same effect."""
    assert effective(listed(version, case)) == EFFECTS[version, case]


@pytest.mark.parametrize("one", EFFECTS, ids="-".join)
def test_only_the_effect_tells_two_listed_collections_apart(one: tuple[str, str]) -> None:
    """Between any two versions, what differs is space, ef_construction and indexes, no more."""
    left = EFFECTS[one]
    for other, right in EFFECTS.items():
        found = immutable_differences(listed(*one), listed(*other), MODERN)
        expected = (
            (left.space is not right.space)
            + (left.ef_construction != right.ef_construction)
            + (left.indexes != right.indexes)
        )
        assert len(found) == expected, (other, found)
        change = configuration_change(listed(*one), listed(*other), MODERN)
        names = ("max_neighbors", "ef_search")
        hnsw = {n: getattr(left, n) for n in names if getattr(left, n) != getattr(right, n)}
        assert change == ({"hnsw": hnsw} if hnsw else {}), other
        assert configuration_change(listed(*one), listed(*other), OLDEST) == {}


@pytest.mark.parametrize(("version", "case"), EFFECTS)
@pytest.mark.parametrize("server", ABILITIES)
def test_a_definition_carries_the_effect_to_any_version(
    version: str, case: str, server: str
) -> None:
    """From any version to any other the effect arrives, but for what is said not to."""
    primary, abilities = listed(version, case), ABILITIES[server]
    made, missing = creatable(primary, abilities)
    wanted = EFFECTS[version, case]
    carried = (
        wanted if abilities.schema and primary.schema else replace(wanted, indexes=frozenset())
    )
    twin = written(primary, abilities)
    assert effective(twin) == carried
    assert immutable_differences(primary, twin, abilities) == ()
    assert configuration_change(primary, twin, abilities) == {}
    assert bool(missing) is (bool(wanted.indexes) and not abilities.schema)
    assert made.metadata.items() >= dict(primary.metadata).items()
    assert (made.name, made.tenant, made.database) == (case, "t", "d")


@pytest.mark.parametrize("server", ABILITIES)
def test_the_metadata_of_people_is_carried_as_it_is(server: str) -> None:
    """Keys that are not the index's arrive unchanged; `hnsw:` keys are added for old servers."""
    primary = listed("1.5.9", "configured")
    primary = replace(primary, metadata={"note": "x", "n": 1})
    made, _ = creatable(primary, ABILITIES[server])
    assert without_legacy(made.metadata) == {"note": "x", "n": 1}
    added = made.metadata.keys() - {"note", "n"}
    legacy = {"hnsw:space", "hnsw:construction_ef", "hnsw:M"}
    assert added == (set() if ABILITIES[server].configuration else legacy)


def test_an_upgraded_database_keeps_the_distance_of_its_metadata() -> None:
    """A 0.6.3 collection listed by 1.5.9 claims l2 and is cosine; the copy becomes cosine."""
    primary = replace(
        listed("1.5.9", "plain"), metadata={"hnsw:space": "cosine", "hnsw:search_ef": 40}
    )
    assert (effective(primary).space, effective(primary).ef_search) == (Space.COSINE, 40)
    made, _ = creatable(primary, MODERN)
    assert made.schema is None
    assert made.configuration is not None
    assert made.configuration["hnsw"]["space"] == "cosine"
    assert effective(written(primary, MODERN)) == effective(primary)


def test_the_distance_of_the_metadata_outranks_any_other() -> None:
    """`hnsw:space` is what a live index uses, even where the configuration names a third one."""
    primary = replace(listed("1.5.9", "configured"), metadata={"hnsw:space": "ip", "hnsw:M": 99})
    assert (effective(primary).space, effective(primary).max_neighbors) == (Space.IP, 8)


@pytest.mark.parametrize("version", ["1.3.0", "1.5.9"])
def test_a_schema_grows_by_writes_and_means_the_same(version: str) -> None:
    """Keys that writes added with the default indexes are no difference, a switched one is."""
    before = listed(version, "plain")
    grown, switched = copy.deepcopy(before.schema), copy.deepcopy(before.schema)
    assert grown is not None
    assert switched is not None
    usual = copy.deepcopy(grown["defaults"]["string"])
    grown["keys"]["topic"] = {"string": usual}
    off = copy.deepcopy(usual)
    off["string_inverted_index"]["enabled"] = False
    switched["keys"]["topic"] = {"string": off}
    assert immutable_differences(before, replace(before, schema=grown), MODERN) == ()
    (difference,) = immutable_differences(before, replace(before, schema=switched), MODERN)
    assert "topic/string_inverted_index=off" in difference


def with_index(name: str, *, enabled: bool, kind: str = "sparse_vector") -> Collection:
    """A collection of 1.5.9 with one more key in its schema, which has this index."""
    plain = listed("1.5.9", "plain")
    schema = copy.deepcopy(dict(plain.schema or {}))
    schema["keys"]["k"] = {kind: {name: {"enabled": enabled, "config": {}}}}
    return replace(plain, schema=schema)


def test_an_index_that_a_single_node_server_refuses_is_named_and_no_difference() -> None:
    """No new copy would have it, so none is made; a distributed replica could and shall have it."""
    sparse = "sparse_vector_index"
    primary, replica = with_index(sparse, enabled=True), listed("1.5.9", "plain")
    assert immutable_differences(primary, replica, MODERN) == ()
    (sentence,) = not_held(primary, replica, MODERN)
    assert "k/sparse_vector_index=on" in sentence
    assert not_held(primary, primary, MODERN) == ()
    assert not_held(primary, replica, PRESENT) == (), "said when it is created"
    assert same_effect(primary, replica)
    distributed = replace(replica, configuration={"spann": {"space": "l2"}})
    assert len(immutable_differences(primary, distributed, MODERN)) == 1
    assert not_held(primary, distributed, MODERN) == ()
    assert len(immutable_differences(replica, primary, MODERN)) == 1, "it only the replica has"


def test_an_index_of_a_kind_that_the_replica_does_not_know_is_named() -> None:
    """A server drops it without a word; of the kinds that it names itself, each is a difference."""
    primary, replica = with_index("new_index", enabled=False, kind="new"), listed("1.5.9", "plain")
    assert immutable_differences(primary, replica, MODERN) == ()
    assert "k/new_index=off" in " ".join(not_held(primary, replica, MODERN))
    known = with_index("string_inverted_index", enabled=False, kind="string")
    assert len(immutable_differences(known, replica, MODERN)) == 1
    assert not_held(known, replica, MODERN) == ()
    assert not same_effect(known, replica)


def test_a_schema_without_its_sparse_indexes() -> None:
    """They are off, whatever else it says stays, and the one it was made from is not touched."""
    primary = with_index("sparse_vector_index", enabled=True)
    schema = dict(primary.schema or {})
    before = copy.deepcopy(schema)
    reduced = without_sparse_indexes(schema)
    assert schema == before
    assert reduced == with_index("sparse_vector_index", enabled=False).schema
    assert without_sparse_indexes({"keys": {"a": None, "b": {"sparse_vector": None}}}) == {
        "keys": {"a": None, "b": {"sparse_vector": None}}
    }
    assert without_sparse_indexes({"keys": None}) == {"keys": None}


def test_a_schema_alone_is_enough() -> None:
    """A server that lists a schema and no configuration is read all the same, spann included."""
    bare = replace(listed("1.5.9", "configured"), configuration={})
    assert effective(bare) == COSINE
    schema = copy.deepcopy(dict(bare.schema or {}))
    for config in (
        schema["defaults"]["float_list"]["vector_index"]["config"],
        schema["keys"]["#embedding"]["float_list"]["vector_index"]["config"],
    ):
        config["hnsw"] = None
        config["spann"] = {"ef_construction": 200, "search_nprobe": 64}
    found = effective(replace(bare, schema=schema))
    assert (found.index, found.space, found.ef_construction) == ("spann", Space.COSINE, 200)
    assert found.spann == {"ef_construction": 200, "search_nprobe": 64}
    schema["keys"]["#embedding"]["float_list"] = None
    assert effective(replace(bare, schema=schema)).index == "spann"


@pytest.mark.parametrize("word", ["many", None, [], {}])
def test_words_that_make_no_sense_mean_the_default(word: Any) -> None:
    """A setting that is not of its kind is passed over, wherever it stands."""
    metadata = {"hnsw:space": word, "hnsw:M": word} if isinstance(word, str) else {}
    odd = {"hnsw": {"space": word, "max_neighbors": word, "ef_search": word}}
    assert effective(Collection("x", "n", "t", "d", metadata, odd)) == DEFAULT
    (schema,) = [
        {"defaults": {"float_list": None}, "keys": {"#embedding": None, "k": {"int": {"x": 1}}}}
    ]
    assert effective(Collection("x", "n", "t", "d", schema=schema)) == DEFAULT


def spann(**settings: Any) -> Collection:
    configuration = {"spann": {"space": "cosine", "ef_search": 50, "search_nprobe": 64} | settings}
    return Collection("s", "docs", "t", "d", configuration=configuration)


def test_a_spann_index_is_carried_where_a_server_takes_it() -> None:
    """Between two spann servers its settings are compared; a local server makes hnsw of it."""
    primary = spann()
    assert configuration_change(primary, spann(search_nprobe=9), MODERN) == {
        "spann": {"search_nprobe": 64}
    }
    assert configuration_change(primary, primary, MODERN) == {}
    hnsw = replace(listed("1.5.9", "configured"), metadata={})
    assert configuration_change(primary, hnsw, MODERN) == {}
    assert immutable_differences(primary, hnsw, MODERN) == ()
    made, missing = creatable(primary, OLDEST)
    assert made.metadata == {"hnsw:space": "cosine", "hnsw:search_ef": 50}
    assert "spann" in " ".join(missing)
    assert changeable(primary.configuration) == {"spann": {"ef_search": 50, "search_nprobe": 64}}


@pytest.mark.parametrize(
    ("function", "carried"),
    [
        (None, None),
        ({"type": "legacy"}, None),
        ({"type": "unknown"}, None),
        ({"type": "known", "name": "default", "config": {}},) * 2,
    ],
)
def test_an_embedding_function_is_carried_verbatim(
    function: dict[str, Any] | None, carried: dict[str, Any] | None
) -> None:
    """What a client said of its function arrives word for word; words that say nothing do not."""
    configuration = {**LISTED["1.5.9"]["plain"]["configuration_json"]}
    primary = replace(
        listed("1.5.9", "plain"), configuration=configuration | {"embedding_function": function}
    )
    assert effective(primary).embedding_function == carried
    change = configuration_change(primary, listed("1.5.9", "plain"), MODERN)
    assert change == ({"embedding_function": carried} if carried else {})
    assert bool(creatable(primary, OLDEST)[1]) is (carried is not None)
    old = replace(primary, metadata={"hnsw:space": "ip"})
    made, _ = creatable(old, MODERN)
    assert made.configuration is not None
    assert made.configuration.get("embedding_function") == carried
    assert changeable({"embedding_function": function}) == (
        {"embedding_function": function} if function else {}
    )
