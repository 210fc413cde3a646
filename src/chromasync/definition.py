"""The effective settings of a collection, and its definition for another server; pure.

Chroma versions describe the same settings in four forms: `hnsw:*` metadata, the 0.6 and 1.0.0
`hnsw_configuration`, the present `configuration_json`, and the schema. `effective` reads any of
them into one value, so servers of different versions can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import orjson

from chromasync.model import Capabilities, Collection, Definition, Scalar, Space

LEGACY_PREFIX = "hnsw:"

_DEFAULTS: dict[str, Any] = {
    "space": "l2",
    "ef_construction": 100,
    "max_neighbors": 16,
    "ef_search": 100,
    "resize_factor": 1.2,
    "sync_threshold": 1000,
}
_METADATA_NAMES = {
    "space": "hnsw:space",
    "ef_construction": "hnsw:construction_ef",
    "max_neighbors": "hnsw:M",
    "ef_search": "hnsw:search_ef",
    "resize_factor": "hnsw:resize_factor",
    "sync_threshold": "hnsw:sync_threshold",
}
_CHANGEABLE = ("ef_search", "max_neighbors", "resize_factor", "sync_threshold")
_CHANGEABLE_HNSW = {*_CHANGEABLE, "num_threads", "batch_size"}
_CHANGEABLE_SPANN = {"ef_search", "search_nprobe"}
_NO_FUNCTION = {"type": "legacy"}
_UNSAID_FUNCTIONS = (_NO_FUNCTION, {"type": "unknown"})
_SPARSE = "sparse_vector_index"
_INDEXES_OFF = {"fts_index", "vector_index", _SPARSE}


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings that a collection really uses, independent of the form of their description.

    Attributes:
        index: `hnsw`, or `spann` on Chroma's distributed servers.
        embedding_function: the client-side descriptor, None when there is none.
        spann: the settings of a spann index besides `space`.
        indexes: metadata indexes switched on or off against the default, as `key/index=state`.
    """

    space: Space = Space.L2
    index: str = "hnsw"
    ef_construction: int = 100
    max_neighbors: int = 16
    ef_search: int = 100
    resize_factor: float = 1.2
    sync_threshold: int = 1000
    embedding_function: Mapping[str, Any] | None = None
    spann: Mapping[str, Any] = field(default_factory=dict)
    indexes: frozenset[str] = frozenset()


def effective(collection: Collection) -> Effective:
    """Read a collection's behaviour from its metadata, configuration and schema.

    The distance is the one of the index if a query has shown it (see `plan.distance`). Otherwise it
    is the one of the metadata `hnsw:space`: the live index of an upgraded database uses it, while
    the configuration claims the default. For the other settings, a configuration that differs from
    the default takes precedence.
    """
    said = described(collection)
    return said if collection.live is None else replace(said, space=collection.live)


def described(collection: Collection) -> Effective:
    """The settings by metadata, configuration and schema alone, without `live`."""
    return _effective(collection, collection.metadata)


def creatable(
    primary: Collection, capabilities: Capabilities
) -> tuple[Definition, tuple[str, ...]]:
    """The definition of a replica of `primary` on a server with these capabilities.

    Its metadata is the primary's, with `hnsw:*` keys added if the server accepts index settings
    in no other form. When `schema` is set, `configuration` has the same settings in the older form,
    for a server that refuses the schema.

    Returns:
        The definition, and one sentence for each part that the server cannot store.
    """
    wanted = effective(primary)
    base = Definition(primary.name, primary.tenant, primary.database, dict(primary.metadata))
    missing = tuple(_not_carried(wanted, capabilities))
    if not capabilities.configuration:
        return replace(
            base, metadata={**base.metadata, **_legacy_metadata(wanted, primary)}
        ), missing
    configuration = _configuration(primary, wanted)
    # a schema that contradicts the effective settings comes from an upgraded database
    usable = capabilities.schema and _effective(primary, {}) == wanted
    return replace(
        base, configuration=configuration, schema=primary.schema if usable else None
    ), missing


def immutable_differences(
    primary: Collection, replica: Collection, capabilities: Capabilities
) -> tuple[str, ...]:
    """Sentences for differences that only a re-creation of the replica's collection can remove.

    Differences that stay after a re-creation on a server with these capabilities are left out.
    """
    left, right = effective(primary), effective(replica)
    found = []
    if left.space is not right.space:
        found.append(f"The distance is {right.space} instead of {left.space}.")
    if left.index == right.index == "hnsw" and left.ef_construction != right.ef_construction:
        found.append(
            f"ef_construction is {right.ef_construction} instead of {left.ef_construction}."
        )
    odd = (left.indexes ^ right.indexes) - _never_held(left, right, replica)
    if capabilities.schema and odd:
        listed = ", ".join(sorted(odd))
        found.append(f"Metadata indexes are switched differently: {listed}.")
    return tuple(found)


def not_held(
    primary: Collection, replica: Collection, capabilities: Capabilities
) -> tuple[str, ...]:
    """One sentence for each part of the definition that the replica's collection lacks.

    Only the created collection shows which parts of its definition a server has stored.
    """
    return (*_words_not_held(primary, replica), *_indexes_not_held(primary, replica, capabilities))


def _words_not_held(primary: Collection, replica: Collection) -> Iterator[str]:
    """A sentence if both indexes use the same distance, but their descriptions differ."""
    mine, theirs = described(primary).space, described(replica).space
    if mine is not theirs and primary.live is not None and primary.live is replica.live:
        yield (
            f"Its description names the distance {theirs}, the primary's names {mine}; both "
            f"indexes use {primary.live}."
        )


def _indexes_not_held(
    primary: Collection, replica: Collection, capabilities: Capabilities
) -> Iterator[str]:
    missing = _never_held(effective(primary), effective(replica), replica)
    if capabilities.schema and missing:
        listed = ", ".join(sorted(missing))
        yield f"The replica's server does not keep these indexes: {listed}."


def same_effect(wanted: Collection, found: Collection) -> bool:
    """Whether `found` has the settings of `wanted`, except those that the server never stores.

    A server makes the kind of vector index that it has, with its own settings for that kind.
    """
    left, right = effective(wanted), effective(found)
    left = replace(left, indexes=left.indexes - _never_held(left, right, found))
    if left.index != right.index:
        left = replace(
            right,
            space=left.space,
            embedding_function=left.embedding_function,
            indexes=left.indexes,
        )
    return left == right


def without_sparse_indexes(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its sparse-vector indexes off; a single-node server refuses them."""
    reduced = copy.deepcopy(dict(schema))
    for types in (reduced.get("keys") or {}).values():
        index = ((types or {}).get("sparse_vector") or {}).get(_SPARSE)
        if index:
            index["enabled"] = False
    return reduced


def _never_held(left: Effective, right: Effective, replica: Collection) -> frozenset[str]:
    """Index settings of `left` that the replica's server never stores.

    A single-node server, which makes every index an hnsw index, refuses sparse-vector indexes. A
    server silently drops indexes of an unknown kind; its schema lists all kinds that it knows.
    """
    told = {name for name, _ in _indexes((replica.schema or {}).get("defaults") or {})}
    kinds = {choice: choice.rpartition("/")[2].partition("=")[0] for choice in left.indexes}
    return frozenset(
        choice
        for choice in left.indexes - right.indexes
        if (kinds[choice] == _SPARSE and right.index == "hnsw")
        or (told and kinds[choice] not in told)
    )


def configuration_change(
    primary: Collection, replica: Collection, capabilities: Capabilities
) -> dict[str, Any]:
    """The change that makes the changeable settings equal by `modify_collection`; {} if equal."""
    if not capabilities.configuration:
        return {}
    left, right = effective(primary), effective(replica)
    change: dict[str, Any] = {}
    if left.index == right.index == "hnsw":
        hnsw = {n: getattr(left, n) for n in _CHANGEABLE if getattr(left, n) != getattr(right, n)}
        hnsw |= _batch_size_change(primary, replica)
        change |= {"hnsw": hnsw} if hnsw else {}
    if left.index == right.index == "spann":
        spann = {
            n: left.spann[n]
            for n in _CHANGEABLE_SPANN & left.spann.keys()
            if left.spann[n] != right.spann.get(n)
        }
        change |= {"spann": spann} if spann else {}
    # an older server has no descriptors; the replica's descriptor then stays
    told = left.embedding_function or "embedding_function" in primary.configuration
    if told and left.embedding_function != right.embedding_function:
        change["embedding_function"] = dict(left.embedding_function or _NO_FUNCTION)
    return change


def _batch_size_change(primary: Collection, replica: Collection) -> dict[str, Any]:
    """`batch_size` if both sides have it, which only a schema shows.

    `num_threads` is left out: a server sets it to its own number of processors.
    """
    mine, theirs = (
        (_vector_config(side.schema or {}).get("hnsw") or {}).get("batch_size")
        for side in (primary, replica)
    )
    return {"batch_size": mine} if mine and theirs and mine != theirs else {}


def changeable(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration (present form) that Chroma can change on a collection."""
    kept: dict[str, Any] = {}
    for index, names in (("hnsw", _CHANGEABLE_HNSW), ("spann", _CHANGEABLE_SPANN)):
        settings = configuration.get(index)
        chosen = {k: v for k, v in (settings or {}).items() if k in names and v is not None}
        if chosen:
            kept[index] = chosen
    if configuration.get("embedding_function") is not None:
        kept["embedding_function"] = configuration["embedding_function"]
    return kept


def without_legacy(metadata: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Collection metadata without the `hnsw:*` keys."""
    return {k: v for k, v in metadata.items() if not k.startswith(LEGACY_PREFIX)}


def _effective(collection: Collection, metadata: Mapping[str, Scalar]) -> Effective:
    words = [collection.configuration, collection.schema, metadata]
    return _understood(orjson.dumps(words, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=4096)
def _understood(words: bytes) -> Effective:
    """The settings that a configuration, a schema and metadata mean; cached for all collections."""
    configuration, schema, metadata = orjson.loads(words)
    index, described, function = _described(configuration, schema)
    settings = {name: _setting(name, described, metadata) for name in _DEFAULTS}
    settings["space"] = Space(settings["space"])
    return Effective(
        **settings,
        index=index,
        embedding_function=None if function in _UNSAID_FUNCTIONS else function or None,
        spann={k: v for k, v in described.items() if k != "space"} if index == "spann" else {},
        indexes=frozenset(_index_choices(schema or {})),
    )


def _setting(name: str, described: Mapping[str, Any], metadata: Mapping[str, Scalar]) -> Any:
    default = _DEFAULTS[name]
    told = _coerced(described.get(name), default)
    legacy = _coerced(metadata.get(_METADATA_NAMES[name]), default)
    if legacy is not None and (name == "space" or told in (None, default)):
        return legacy
    return default if told is None else told


def _coerced(value: Any, default: Any) -> Any:
    """`value` in the type of `default`; None when it is absent or invalid."""
    if value is None:
        return None
    try:
        if isinstance(default, str):
            return Space(value).value
        return type(default)(value)
    except (TypeError, ValueError):
        return None


def _described(
    configuration: Mapping[str, Any], schema: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any], Mapping[str, Any] | None]:
    """The kind of index, its settings under present names, and the embedding function."""
    function = configuration.get("embedding_function")
    for index in ("hnsw", "spann"):
        if isinstance(configuration.get(index), Mapping):
            return index, dict(configuration[index]), function
    legacy = configuration.get("hnsw_configuration")
    if isinstance(legacy, Mapping):
        return "hnsw", {**legacy, "max_neighbors": legacy.get("M")}, None
    vector = _vector_config(schema or {})
    for index in ("hnsw", "spann"):
        if isinstance(vector.get(index), Mapping):
            settings = {**vector[index], "space": vector.get("space")}
            return index, settings, function or vector.get("embedding_function")
    return "hnsw", {}, function


def _vector_config(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    keys, defaults = schema.get("keys") or {}, schema.get("defaults") or {}
    for types in (keys.get("#embedding") or {}, defaults):
        config = ((types.get("float_list") or {}).get("vector_index") or {}).get("config")
        if config:
            return dict(config)
    return {}


def _index_choices(schema: Mapping[str, Any]) -> Iterator[str]:
    defaults: dict[str, bool] = {}
    for name, enabled in _indexes(schema.get("defaults") or {}):
        defaults[name] = enabled
        if enabled is (name in _INDEXES_OFF):
            yield f"*/{name}={'on' if enabled else 'off'}"
    # a write, not a person, added a key that only repeats the defaults
    for key, types in (schema.get("keys") or {}).items():
        for name, enabled in _indexes(types or {}):
            usual = defaults.get(name, name not in _INDEXES_OFF)
            if key == "#document":
                usual = name == "fts_index"
            if enabled is not usual and (key != "#embedding" or name != "vector_index"):
                yield f"{key}/{name}={'on' if enabled else 'off'}"


def _indexes(types: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    for indexes in types.values():
        for name, index in (indexes or {}).items():
            if isinstance(index, Mapping) and isinstance(index.get("enabled"), bool):
                yield name, index["enabled"]


def _configuration(primary: Collection, wanted: Effective) -> dict[str, Any]:
    """The present form: the primary's own configuration if it is right, otherwise a new one."""
    present = {k: v for k, v in primary.configuration.items() if v is not None}
    if ("hnsw" in present or "spann" in present) and _effective(primary, {}) == wanted:
        return present
    hnsw = {name: getattr(wanted, name) for name in _DEFAULTS}
    built: dict[str, Any] = {"hnsw": hnsw | {"space": wanted.space.value}}
    if wanted.embedding_function:
        built["embedding_function"] = dict(wanted.embedding_function)
    return built


def _legacy_metadata(wanted: Effective, primary: Collection) -> dict[str, Scalar]:
    added: dict[str, Scalar] = {}
    for name, default in _DEFAULTS.items():
        value = getattr(wanted, name)
        value = value.value if isinstance(value, Space) else value
        if value != default or _METADATA_NAMES[name] in primary.metadata:
            added[_METADATA_NAMES[name]] = value
    return added


def _not_carried(wanted: Effective, capabilities: Capabilities) -> Iterator[str]:
    if wanted.embedding_function and not capabilities.configuration:
        yield "The description of the embedding function cannot be stored on this server."
    if wanted.indexes and not capabilities.schema:
        odd = ", ".join(sorted(wanted.indexes))
        yield f"Metadata indexes cannot be switched on or off on this server ({odd})."
    if wanted.index == "spann" and not capabilities.configuration:
        yield "The settings of the spann index cannot be stored on this server."
