"""A read that recognizes texts comes to the same as one that decodes every answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.chroma import decode
from chromasync.chroma.http_errors import Damaged, Malformed, Unexpected
from chromasync.chroma.reader import undecoded
from chromasync.lab.fake import FakeServer
from chromasync.ledger.digest import ids_digest, text_digest
from chromasync.model import (
    AppliedDigests,
    Chunk,
    ChunkResult,
    Digests,
    Pair,
    Records,
    Side,
    Space,
    Task,
)
from chromasync.reconcile.chunk import ChunkReconciler
from tests.property.test_chunk import NOON, part
from tests.support.ledgers import COLLECTION, chunk_of, contents, names
from tests.support.properties import examples

IDS = names(5)
some = st.sets(st.sampled_from(IDS))
HOSTILE = '"embeddings":[[0.5]],"embeddings":null'

odd_text = st.one_of(st.none(), st.just(HOSTILE), st.just("]]"), st.text(max_size=8))
odd_value = st.one_of(st.booleans(), odd_text.filter(bool), st.lists(st.integers(0, 9), min_size=1))
odd_metadata = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["embeddings", "a", HOSTILE]), odd_value)
)
single = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, object]:
    """An answer as servers send it, with contents that look like its own syntax."""
    count, width = draw(st.integers(0, 4)), draw(st.integers(1, 3))

    def column(of: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(of, min_size=count, max_size=count))

    row = st.lists(single, min_size=width, max_size=width)
    return {
        "ids": column(st.one_of(st.just(HOSTILE), st.text(min_size=1, max_size=8))),
        "embeddings": column(row),
        "documents": column(odd_text),
        "uris": column(odd_text),
        "metadatas": column(odd_metadata),
        "include": ["embeddings", "documents", "uris", "metadatas"],
    }


def plainly(answer: dict[str, object]) -> Records:
    """The records of an answer by a plain parser."""
    return decode._decoded(orjson.dumps(answer))


def as_dict(records: Records) -> dict[str, object]:
    vectors = None if records.embeddings is None else records.embeddings.tolist()
    return {"ids": records.ids, "documents": records.documents, "uris": records.uris} | {
        "metadatas": records.metadatas,
        "vectors": vectors,
    }


@examples(150)
@given(answer=answers())
def test_what_is_decoded_apart_is_what_is_decoded_at_once(answer: dict[str, object]) -> None:
    """The text of the embeddings is found whatever else the answer has, and is only theirs."""
    body = orjson.dumps(answer)
    assert as_dict(decode.records(body, embeddings=True)) == as_dict(plainly(answer))
    found = decode.answer(body)
    assert isinstance(found, decode.Answer) == bool(answer["ids"])
    if isinstance(found, decode.Answer):
        assert bytes(found.text) == orjson.dumps(answer["embeddings"])
        assert as_dict(found.found) == as_dict(replace(plainly(answer), embeddings=None))


@examples(100)
@given(answer=answers(), cut=st.integers(1, 3))
def test_the_text_is_the_same_in_however_many_answers(answer: dict[str, Any], cut: int) -> None:
    """Smaller reads come to the same digest and the same records as one."""
    rows = len(answer["ids"])
    parts = [
        {name: values[at : at + cut] for name, values in answer.items()}
        for at in range(0, rows, cut)
    ]
    one, several = (
        undecoded([decode.answer(orjson.dumps(part)) for part in some])
        for some in ([answer], parts)
    )
    assert (one is None) == (rows == 0)
    assert rows == 0 or (one is not None and several is not None)
    if one is not None and several is not None:
        assert as_dict(one) == as_dict(several)
        assert one.text_digest == several.text_digest
        assert one.text_digest != text_digest([b"[[0.1]]"])


def without(row: int, column: str) -> Callable[[dict[str, object]], object]:
    def change(answer: dict[str, object]) -> object:
        rows = list(answer[column])  # type: ignore[call-overload]
        rows[row] = [] if column == "embeddings" else 7
        return answer | {column: rows}

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (without(0, "embeddings"), Damaged),
        (without(1, "embeddings"), Damaged),
        (without(0, "documents"), Damaged),
        (lambda answer: answer | {"embeddings": [[1.0]]}, Damaged),
        (lambda answer: answer | {"embeddings": [[1.0], ["x"]]}, Damaged),
        (lambda answer: answer | {"embeddings": [[1e300], [1.0]]}, Damaged),
        (lambda answer: answer | {"embeddings": None}, Damaged),
        (lambda answer: answer | {"ids": 3}, Unexpected),
    ],
)
def test_a_damaged_answer_is_refused_as_before(
    change: Callable[[dict[str, object]], dict[str, object]], error: type[Exception]
) -> None:
    """Nothing is taken from an answer with a wrong column, however it is read."""
    answer: dict[str, object] = {
        "ids": ["a", "b"],
        "embeddings": [[1.0], [2.0]],
        "documents": ["x", None],
        "uris": [None, None],
        "metadatas": [None, None],
    }
    body = orjson.dumps(change(answer))
    with pytest.raises(error):
        decode.records(body, embeddings=True)


def test_a_cut_answer_is_refused() -> None:
    """An answer that ends within the embeddings, or after them, is not taken for a shorter one."""
    body = orjson.dumps({"ids": ["a"], "embeddings": [[1.0, 2.0]], "documents": ["x"]})
    for length in range(len(body)):
        with pytest.raises((Malformed, Unexpected, Damaged)):
            decode.records(body[:length], embeddings=True)


class World:
    """A pair of servers and a chunk; the chunk forgets the texts if it is to decode everything."""

    def __init__(self, *, texts: bool) -> None:
        self.texts = texts
        self.primary, self.replica = FakeServer(Side.PRIMARY), FakeServer()
        self.pair = Pair(self.primary.make(), self.replica.make(), Space.L2)
        self.reconciler = ChunkReconciler(self.primary, self.replica)
        head = chunk_of(IDS, chunk_id=7).head
        unknown = Digests.unknown(len(IDS))
        self.chunk = Chunk(head, list(IDS), AppliedDigests(unknown, unknown))

    def step(self, wanted: Records, lost: set[str], *, check: bool) -> ChunkResult:
        """Let the primary have these records, lose some, and reconcile."""
        self.primary.put(self.pair.primary, wanted)
        held = self.primary.contents(self.pair.primary)
        self.primary.remove(self.pair.primary, lost.intersection(held.ids))
        task = Task(1, 1, COLLECTION, "docs", 7, check, 0, NOON)
        result = self.reconciler.reconcile(self.pair, self.chunk, task, lambda: 60.0, {})
        self.chunk = result.chunk
        if not self.texts:
            self.chunk = replace(self.chunk, head=replace(self.chunk.head, text_digests=None))
        return result


def comparable(result: ChunkResult) -> object:
    head = replace(result.chunk.head, text_digests=None, read_seconds=0.0)
    return replace(result, chunk=replace(result.chunk, head=head))


@examples(60)
@given(steps=st.lists(st.tuples(contents(IDS), some, some, st.booleans()), min_size=1, max_size=4))
def test_a_recognized_text_changes_nothing(
    steps: list[tuple[Records, set[str], set[str], bool]],
) -> None:
    """After any history, the ledger and the replica are as if every answer had been decoded."""
    knowing, plain = World(texts=True), World(texts=False)
    for wanted, there, lost, check in steps:
        for repeated in (False, False, True):
            # the same once more: the text is recognized, and the outcome is the same
            args = (part(wanted, set() if repeated else there), lost)
            one, other = (w.step(*args, check=check) for w in (knowing, plain))
            assert comparable(one) == comparable(other)
    ours, theirs = (w.replica.contents(w.pair.replica) for w in (knowing, plain))
    assert as_dict(ours) == as_dict(theirs)
    assert np.array_equal(np.array(ids_digest(ours.ids)), np.array(ids_digest(theirs.ids)))
