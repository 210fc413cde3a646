"""Reading answers: the fast way and the plain way give the same values."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.chroma import decode, encode
from chromasync.chroma.http_errors import Damaged, Malformed, Unexpected, place, retry_after
from chromasync.model import Capabilities, Records, Side

SERVER = Capabilities(
    "1", 9, base64=True, schema=True, configuration=True, arrays=True, null_columns=True
)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
scalars = (
    st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
rows = st.lists(
    st.tuples(
        st.text(min_size=1), st.lists(floats, min_size=3, max_size=3), st.none() | st.text(),
        st.none() | st.dictionaries(st.text(), scalars, max_size=3), st.none() | st.text(),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def columns(entries: Any) -> list[list[Any]]:
    return [list(part) for part in zip(*entries, strict=True)]


def answer(entries: Any) -> bytes:
    ids, embeddings, documents, metadatas, uris = columns(entries)
    return orjson.dumps({
        "ids": ids, "embeddings": embeddings, "documents": documents, "metadatas": metadatas,
        "uris": uris, "data": None, "included": [],
    })  # fmt: skip


@given(rows)
def test_both_ways_of_reading_agree(entries: Any) -> None:
    """Pysimdjson and orjson give the same records, equal to what was written."""
    body = answer(entries)
    fast = decode.records(body, embeddings=True)
    plain = decode.records(body, embeddings=False)
    lists = decode._from_lists(orjson.loads(body)["embeddings"], plain.ids)
    assert fast.embeddings is not None
    assert np.array_equal(fast.embeddings, lists)
    assert fast.embeddings.tolist() == [list(entry[1]) for entry in entries]
    assert fast.ids == plain.ids == [entry[0] for entry in entries]
    assert fast.documents == plain.documents == [entry[2] for entry in entries]
    assert fast.metadatas == plain.metadatas == [entry[3] or {} for entry in entries]
    assert fast.uris == plain.uris == [entry[4] for entry in entries]


def test_huge_answers_are_read_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library reads them, because the others reserve many times their size."""
    body = answer(
        [("a", [0.1, -0.0, 3e30], "gr\u00f6\u00dfe \U0001f600", {"k": 0.1, "n": -5}, None)]
    )
    fast = decode.records(body, embeddings=True)
    monkeypatch.setattr(decode, "MOST_FAST_BYTES", 10)
    with monkeypatch.context() as without:
        without.setattr(orjson, "loads", None)
        plain = decode.records(body, embeddings=True)
    assert fast.embeddings is not None
    assert plain.embeddings is not None
    assert fast.embeddings.tobytes() == plain.embeddings.tobytes()
    assert fast.ids == plain.ids
    assert (fast.documents, fast.metadatas) == (plain.documents, plain.metadatas)
    for damaged in (
        body[:-2],
        body.replace(b"-5", b"NaN"),
        body.replace(b"gr", b"\xff"),
        b"[" * 90_000,
        b'"\\udc00"',
    ):
        with pytest.raises(Malformed):
            decode.parsed(damaged)


def test_without_pysimdjson_the_same_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pysimdjson has no wheel, orjson stands in."""
    body = answer([("a", [0.1, -0.0, 3], None, {"k": 1.0}, "u")])
    fast = decode.records(body, embeddings=True)
    monkeypatch.setattr(decode, "simdjson", None)
    plain = decode.records(body, embeddings=True)
    assert fast.embeddings is not None
    assert plain.embeddings is not None
    assert fast.embeddings.tobytes() == plain.embeddings.tobytes()
    assert fast.metadatas == plain.metadatas


def test_a_parser_is_not_shared_between_threads() -> None:
    """Each thread reads with a parser of its own, and reading again frees the former answer."""
    bodies = [answer([(f"{i}", [i, i, i], f"{i}", None, None)] * 200) for i in range(8)]
    wrong = []

    def work(i: int) -> None:
        for _ in range(50):
            found = decode.records(bodies[i], embeddings=True)
            if found.embeddings is None or not (found.embeddings == i).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b'{"ids":["a"', Malformed),
        (b'{"ids":[1]}', Unexpected),
        (b'{"documents":[]}', Unexpected),
        (b'"text"', Unexpected),
        (b'{"ids":["a"],"documents":[null],"metadatas":[null],"uris":[null]}', Damaged),
    ],
)
def test_unusable_answers_are_told_apart(body: bytes, error: type[Exception]) -> None:
    """No JSON, not Chroma's JSON and damaged data are three different things."""
    with pytest.raises(error):
        decode.records(body, embeddings=True)


def test_unknown_and_missing_fields_of_a_collection() -> None:
    """A collection needs an id and a name; everything else may be missing or new."""
    found = decode.collection({"id": "i", "name": "n", "metadata": None, "brand_new": {}})
    assert (found.id, found.metadata, found.configuration, found.schema) == ("i", {}, {}, None)
    broken: list[Any] = [
        {"name": "n"},
        {"id": "i", "name": None},
        [],
        {"id": "i", "name": "n", "metadata": 1},
    ]
    for entry in broken:
        with pytest.raises(Unexpected):
            decode.collection(entry)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60), st.integers(1, 9))
def test_cutting_loses_nothing(sizes: list[int], most_bytes: int, most: int) -> None:
    """Runs follow each other without gaps and keep both limits, unless one row is too large."""
    runs = encode.cut(sizes, most_bytes, most)
    assert [i for run in runs for i in run] == list(range(len(sizes)))
    for run in runs:
        assert len(run) <= most
        assert sum(sizes[i] for i in run) <= most_bytes or len(run) == 1


@given(rows, st.booleans())
def test_a_body_is_as_large_as_its_rows_say(entries: Any, base64: bool) -> None:
    """The sizes that batches are cut by cover the body that is sent."""
    ids, vectors, documents, metadatas, uris = columns(entries)
    server = Capabilities(
        "1", 9, base64=base64, schema=True, configuration=True, arrays=True, null_columns=True
    )
    clean = [{k: v for k, v in (m or {}).items() if not k.startswith("chroma:")} for m in metadatas]
    sent = Records(ids, documents, clean, uris, np.array(vectors, dtype=np.float32))
    (body,) = encode.upsert_bodies(sent, server, Side.REPLICA)
    assert len(body) <= sum(encode.record_sizes(sent, server)) + 200


def test_the_wait_that_a_header_names() -> None:
    """Retry-After is a number of seconds or a date; anything else names no time."""
    later = datetime.now(UTC) + timedelta(seconds=60)
    assert retry_after("2.5") == 2.5
    assert retry_after("-1") == 0
    assert 50 < (retry_after(format_datetime(later, usegmt=True)) or 0) <= 60
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_a_place_has_no_credentials() -> None:
    """A server is named by side and address alone."""
    shown = str(place(Side.PRIMARY, "https://user:pw@[::1]:8000/prefix"))
    assert shown == "primary at https://[::1]:8000/prefix"
