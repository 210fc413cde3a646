"""Turns Chroma's answers into our types, with embeddings parsed directly into float32."""

from __future__ import annotations

import importlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import orjson

from chromasync.chroma.http_errors import Damaged, Malformed, Unexpected
from chromasync.model import Collection, Floats, Metadata, Neighbours, Records

simdjson: Any
try:
    simdjson = importlib.import_module("simdjson")
except ImportError:  # no wheel for this Python; orjson does the same, a few times slower
    simdjson = None

T = TypeVar("T")

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escaped half of a character; the standard library would take one without the other."""

_EMBEDDINGS = b'"embeddings":[['
"""How the embeddings begin in the compact JSON of all servers so far."""

MOST_FAST_BYTES = 16 * 1024 * 1024
"""The largest answer for pysimdjson and orjson, which reserve 14 and 12 times its memory."""

_NEXT = b']],"documents":'
"""How they end in most answers, which is found faster than two brackets."""

_threads = threading.local()


def parsed(body: bytes) -> Any:
    """The JSON value in `body`; raises Malformed."""
    try:
        if len(body) <= MOST_FAST_BYTES or SURROGATE.search(body):
            return orjson.loads(body)
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def acknowledged(body: bytes) -> None:
    """Check that Chroma (an object, true or null), not a web page, answered a write."""
    answer = parsed(body)
    if answer is not None and answer is not True and not isinstance(answer, dict):
        raise Unexpected(f"a {type(answer).__name__} where an object belongs")


def number(body: bytes) -> int:
    """An answer that is one whole number."""
    answer = parsed(body)
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise Unexpected(f"a {type(answer).__name__} where a count belongs")
    return answer


def mapping(body: bytes) -> dict[str, Any]:
    """An answer that is one object."""
    answer = parsed(body)
    if not isinstance(answer, dict):
        raise Unexpected(f"a {type(answer).__name__} where an object belongs")
    return answer


def listed(item: Callable[[Any], T]) -> Callable[[bytes], list[T]]:
    """A parser for an answer that is a list; `item` parses its entries."""

    def parse(body: bytes) -> list[T]:
        answer = parsed(body)
        if not isinstance(answer, list):
            raise Unexpected(f"a {type(answer).__name__} where a list belongs")
        return [item(entry) for entry in answer]

    return parse


def database_name(entry: Any) -> str:
    """The name of one database."""
    return _text(entry, "name")


def collection_answer(body: bytes, tenant: str = "") -> Collection:
    """An answer that is one collection; see `collection`."""
    return collection(parsed(body), tenant)


def collection(entry: Any, tenant: str = "") -> Collection:
    """One collection; unknown and missing fields are allowed.

    Args:
        tenant: where it was asked for; as the server says if empty.
    """
    name = _text(entry, "name")
    dimension = entry.get("dimension")
    return Collection(
        id=_text(entry, "id"),
        name=name,
        tenant=tenant or str(entry.get("tenant") or ""),
        database=str(entry.get("database") or ""),
        metadata=_object(entry, "metadata") or {},
        configuration=_object(entry, "configuration_json") or {},
        schema=_object(entry, "schema"),
        dimension=dimension if isinstance(dimension, int) else None,
    )


def ids(body: bytes) -> list[str]:
    """The ids of a `get` answer, in the order given."""
    return _ids(mapping(body))


@dataclass(frozen=True, slots=True)
class Answer:
    """A `get` answer whose embeddings are not decoded yet.

    Attributes:
        body: the whole answer.
        found: its records without embeddings.
        text: the text of the embeddings.
    """

    body: bytes
    found: Records
    text: memoryview

    def decoded(self) -> Records:
        """The records with their embeddings.

        Raises:
            Damaged: an embedding is missing, ragged or not finite.
        """
        vectors = _parsed_vectors(self.text)
        if vectors is None or len(vectors) != len(self.found):
            return _decoded(self.body)
        return replace(self.found, embeddings=vectors)


def answer(body: bytes) -> Answer | Records:
    """A `get` answer; an unusual one, or one without records, is decoded at once.

    Raises:
        Malformed, Unexpected: it is not a `get` answer.
        Damaged: a column has another length than the ids, or an unusual answer has an embedding
            that is missing, ragged or not finite.
    """
    text, rest = _divided(body)
    return _decoded(body) if rest is None else Answer(body, _records(rest), text)


def records(body: bytes, *, embeddings: bool) -> Records:
    """The records of a `get` answer; `embeddings` says whether it has embeddings.

    Raises:
        Malformed, Unexpected: it is not a `get` answer.
        Damaged: a column has another length than the ids, or an embedding is missing, ragged or
            not finite.
    """
    if not embeddings:
        return _records(mapping(body))
    found = answer(body)
    return found.decoded() if isinstance(found, Answer) else found


def _divided(body: bytes) -> tuple[memoryview, dict[str, Any] | None]:
    """The text of an answer's embeddings, and the parsed rest; None for an unusual answer.

    The text is found without parsing it: it begins with a key that stands nowhere else, because
    quotes within strings are escaped, and the metadata has no lists of lists.
    """
    view = memoryview(body)
    start = body.find(_EMBEDDINGS) + len(_EMBEDDINGS) - 2
    stop = body.find(_NEXT, start) + 2
    if stop < 2:
        stop = body.find(b"]]", start) + 2
    if start < len(_EMBEDDINGS) - 2 or stop < 2:
        return view[:0], None
    try:
        rest = mapping(b"".join((view[:start], b"null", view[stop:])))
    except (Malformed, Unexpected):
        return view[:0], None  # the whole answer tells more
    usual = "embeddings" in rest and rest["embeddings"] is None
    return view[start:stop], rest if usual else None


def _decoded(body: bytes) -> Records:
    """The records of an unusual or damaged answer."""
    columns = mapping(body)
    return replace(
        _records(columns), embeddings=_from_lists(columns.get("embeddings"), _ids(columns))
    )


def _records(columns: Mapping[str, Any]) -> Records:
    """The records of an answer, without their embeddings."""
    names = _ids(columns)
    count = len(names)
    return Records(
        ids=names,
        documents=_column(columns, "documents", count, str),
        metadatas=[_metadata(value) for value in _column(columns, "metadatas", count, dict)],
        uris=_column(columns, "uris", count, str),
        embeddings=None,
    )


def neighbours(body: bytes) -> Neighbours:
    """The answer to a query with one vector.

    Raises:
        Malformed, Unexpected: it is not the answer to a query.
        Damaged: a column has another length than the ids, or contains something other than numbers.
    """
    columns = {name: _first(mapping(body), name) for name in ("ids", "distances", "embeddings")}
    names, distances = _ids(columns), columns["distances"]
    if not isinstance(distances, list) or len(distances) != len(names):
        raise Damaged("the distances are missing or do not match the ids")
    if not all(x is None or isinstance(x, int | float) for x in distances):
        raise Damaged("a distance is not a number")
    # a distance that is too large for a float32, or not a number, comes as null
    told = [float("nan") if x is None else float(x) for x in distances]
    return Neighbours(names, told, _from_lists(columns["embeddings"], names))


def _first(answer: Mapping[str, Any], name: str) -> Any:
    """The part of the answer about the first vector, the only one in the query."""
    lists = answer.get(name)
    if not isinstance(lists, list) or len(lists) != 1:
        raise Unexpected(f"an answer without {name} of one query")
    return lists[0]


def _parsed_vectors(text: memoryview) -> Floats | None:
    """The vectors in a text by the fastest parser; None for odd ones, which a slow one explains."""
    if simdjson is None or len(text) > MOST_FAST_BYTES:
        return None
    try:
        rows = _parser().parse(text)
        width = len(rows[0]) if len(rows) else 0
        if not width or any(len(row) != width for row in rows):
            return None
        flat = np.frombuffer(rows.as_buffer(of_type="d"), dtype=np.float64)
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
            vectors = flat.astype(np.float32).reshape(len(rows), width)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return None
    return vectors if np.isfinite(vectors).all() else None


def _parser() -> Any:
    """This thread's parser, which reuses its memory."""
    if not hasattr(_threads, "parser"):
        _threads.parser = simdjson.Parser()
    return _threads.parser


def _from_lists(rows: Any, names: list[str]) -> Floats:
    """Embeddings from lists of numbers; the error names the first wrong record."""
    if not names:
        return np.empty((0, 0), dtype=np.float32)
    if not isinstance(rows, list) or len(rows) != len(names):
        raise Damaged("the embeddings are missing or do not match the ids")
    width = len(rows[0]) if isinstance(rows[0], list) else 0
    for name, row in zip(names, rows, strict=True):
        if not isinstance(row, list) or not row or len(row) != width:
            raise Damaged(f"record {name!r} has no embedding of the collection's dimension")
        if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in row):
            raise Damaged(f"the embedding of record {name!r} holds something else than numbers")
    with np.errstate(over="ignore"):
        vectors = np.array(rows, dtype=np.float64).astype(np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise Damaged(f"the embedding of record {names[int(finite.argmin())]!r} is not finite")
    return vectors


def _column(columns: Mapping[str, Any], name: str, count: int, kind: type) -> list[Any]:
    values = columns.get(name)
    if count == 0:
        return []
    if values is None:
        raise Damaged(f"the column {name!r} is missing")
    if not isinstance(values, list) or len(values) != count:
        raise Damaged(f"the column {name!r} does not match the ids")
    if not {type(value) for value in values} <= {kind, type(None)}:
        raise Damaged(f"the column {name!r} holds values of a wrong type")
    return values


def _metadata(value: Metadata | None) -> Metadata:
    return value or {}


def _ids(columns: Mapping[str, Any]) -> list[str]:
    names = columns.get("ids")
    if not isinstance(names, list) or not {type(name) for name in names} <= {str}:
        raise Unexpected("an answer without a list of ids")
    return names


def _text(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise Unexpected(f"an entry without {name!r}")
    return value


def _object(entry: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = entry.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise Unexpected(f"an entry whose {name!r} is no object")
