"""Values arrive as they are: types, lists, the ends of their ranges, any text and any id."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import numpy as np
import pytest

from tests.support.rest import Rest
from tests.support.stage import Stage
from tests.support.writes import watched

ALIKE: list[Any] = [1, 1.0, "1", True]
FALSY: list[Any] = [0, 0.0, "", False]

LISTS: dict[str, tuple[Any, Any]] = {
    "set": (None, ["a", "b"]),
    "changed": (["a", "b"], ["a", "c"]),
    "longer": ([1, 2], [1, 2, 3]),
    "shorter": ([1.5, 2.5], [1.5]),
    "reordered": (["a", "b"], ["b", "a"]),
    "repeated": (["a"], ["a", "a"]),
    "removed": ([True, False], None),
    "to a scalar": (["a"], "a"),
    "from a scalar": (7, [7]),
    "int to float": ([1, 2], [1.0, 2.0]),
    "float to int": ([1.0], [1]),
    "int to bool": ([1, 0], [True, False]),
    "int to text": ([1], ["1"]),
    "bools": ([True, True], [True, False]),
    "one to two": ("x", ["x", "y"]),
}

EXTREMES: list[Any] = [
    *(0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(0.1, 1 / 3, 1e15, 1e16, 1e22, 1e308, -1.7976931348623157e308),
    *(2.2250738585072014e-308, 2.225073858507201e-308, 1e-310, 5e-324, -5e-324, -0.0),
    *("", " ", "\n", "1", "null", "true", "\x00", "é" * 5000, "日本語 🦜", "a\\\"b'c", "\u2028"),
]

KEYS = ["k", " ", "a.b", "eq$", "ключ", "🔑", "a/b", "new\nline", "document", "id", "k" * 300]

IDS = [
    *("plain", "ünï", "日本語", "😀", "e\u0301", "é", "new\nline", "tab\there", "a/b/c", "../up"),
    *("a b", " lead", "trail ", "%2F", "a?b#c", '"quoted"', "it's", "back\\slash", "null", "0"),
    *("00", "ID", "id", "-1", "\u200b", "\u2028", "\x00", "x" * 2000, "{}", "🏳️\u200d🌈"),
]


def typed(value: Any) -> tuple[str, Any]:
    """The value with its type, because 1 == 1.0 == True."""
    if isinstance(value, list):
        return "list", [typed(item) for item in value]
    return type(value).__name__, value


def pairs(values: list[Any]) -> dict[str, tuple[Any, Any]]:
    """Every value changing into every other one."""
    return {f"{a!r} to {b!r}": (a, b) for a, b in itertools.permutations(values, 2)}


@pytest.mark.long
@pytest.mark.parametrize("chosen", [ALIKE, FALSY], ids=["alike", "falsy"])
def test_a_value_changes_its_type(stage: Stage, on_primary: Rest, chosen: list[Any]) -> None:
    """1, 1.0, "1" and true are four values, each changing into each in one cycle."""
    change_values(stage, on_primary, pairs(chosen))


def test_a_list_changes(stage: Stage, on_primary: Rest) -> None:
    """Lists are set, changed in any way, removed, and turned into scalars and back."""
    change_values(stage, on_primary, LISTS)


def change_values(stage: Stage, on_primary: Rest, changes: dict[str, tuple[Any, Any]]) -> None:
    """Change the value `v` of one record each, and back, with a cycle after each step."""
    names = list(changes)
    stage.create(space="l2")
    first: list[dict[str, Any]] = [
        {"k": 1} | ({} if before is None else {"v": before}) for before, _ in changes.values()
    ]
    on_primary.write("add", ids=names, embeddings=[[1.0, 2.0]] * len(names), metadatas=first)
    stage.sync()
    for column in (1, 0):
        wanted = {name: change[column] for name, change in changes.items()}
        on_primary.write("update", ids=names, metadatas=[{"v": v} for v in wanted.values()])
        with watched(stage.servers.replica_proxy) as writes:
            stage.sync()
        assert writes.by_id == {
            name: [("update", {"metadata": {"v": value}})] for name, value in wanted.items()
        }
        got = stage.on_replica().get(include=["metadatas"])
        held = dict(zip(got["ids"], got["metadatas"] or [], strict=True))
        assert {name: typed(held[name].get("v")) for name in names} == {
            name: typed(value) for name, value in wanted.items()
        }
        stage.assert_identical()
        stage.assert_quiet()


def test_values_at_the_ends_of_their_ranges(stage: Stage, on_primary: Rest) -> None:
    """Large, tiny and odd values survive the copy and the change, alone and in lists."""
    names = [f"e{n}" for n in range(len(EXTREMES))]
    stage.create(space="l2")
    texts = [str(value) for value in EXTREMES]
    vectors = [[1.0]] * len(names)
    before = [{"v": value, "l": [value]} for value in EXTREMES]
    on_primary.write("add", ids=names, embeddings=vectors, documents=texts, metadatas=before)
    stage.sync_and_judge()
    turned = EXTREMES[1:] + EXTREMES[:1]
    after = [{"v": value, "l": [value, value]} for value in turned]
    on_primary.write("update", ids=names, metadatas=after, documents=texts[1:] + texts[:1])
    assert stage.sync_and_judge().counts.updated == len(names)
    got = stage.on_replica().get()
    held = dict(zip(got["ids"], got["metadatas"] or [], strict=True))
    for name, value in zip(names, turned, strict=True):
        number = isinstance(value, float)
        near = pytest.approx(value, rel=1e-15, abs=0) if number else value
        assert held[name] == {"v": near, "l": [near, near]}


def test_any_float_in_metadata_settles(stage: Stage, on_primary: Rest) -> None:
    """A float that the server parses an ulp off is equal all the same, and costs no write again."""
    bits = np.random.default_rng(3).integers(0, 2**64, 600, dtype=np.uint64).tolist()
    doubles = [struct.unpack("<d", struct.pack("<Q", pattern))[0] for pattern in bits]
    doubles += np.random.default_rng(4).standard_normal(600).tolist()
    finite = [value for value in doubles if math.isfinite(value)]
    stage.create(space="l2")
    on_primary.write(
        "add",
        ids=[str(n) for n in range(len(finite))],
        embeddings=[[1.0]] * len(finite),
        metadatas=[{"v": value, "l": [value, -value]} for value in finite],
    )
    assert stage.sync_and_judge().counts.quarantined == 0


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_odd_embeddings(stage: Stage, on_primary: Rest, space: str) -> None:
    """Zeros of both signs, denormals, huge numbers: equal to the bit where Chroma keeps bits."""
    rows = {
        "zero": [0.0, 0.0, 0.0, 0.0],
        "signs": [-0.0, 0.0, -0.0, 1.0],
        "denormal": [1e-45, -1e-45, 1e-40, 1.1754942e-38],
        "mixed": [1e-45, 1e-20, 1.0, -0.0],
        "long": [1e18, -1e18, 1e18, 1.0],
    }
    if space != "cosine":
        rows["largest"] = [3.4028235e38, -3.4028235e38, 1.0, 2.0]
    stage.create(space=space)
    on_primary.write("add", ids=list(rows), embeddings=list(rows.values()))
    stage.sync_and_judge()
    got = stage.on_replica().get(include=["embeddings"])
    assert sorted(got["ids"]) == sorted(rows)
    for name, row in zip(got["ids"], np.asarray(got["embeddings"], dtype=np.float32), strict=True):
        if space != "cosine":
            assert row.tobytes() == np.array(rows[name], dtype=np.float32).tobytes(), name
    on_primary.write("update", ids=list(rows), embeddings=[rows["mixed"]] * len(rows))
    assert stage.sync_and_judge().counts.updated >= len(rows) - 2


def test_any_key(stage: Stage, on_primary: Rest) -> None:
    """Metadata keys of any text are set, changed and removed."""
    stage.create(space="l2")
    on_primary.write("add", ids=["a"], embeddings=[[1.0]], metadatas=[dict.fromkeys(KEYS, "x")])
    stage.sync_and_judge()
    changed = {key: (n if n % 2 else None) for n, key in enumerate(KEYS)}
    on_primary.write("update", ids=["a"], metadatas=[changed])
    stage.sync_and_judge()
    (held,) = stage.on_replica().get()["metadatas"] or []
    assert held == {key: value for key, value in changed.items() if value is not None}


def test_any_id(stage: Stage, on_primary: Rest) -> None:
    """Ids of any text are copied, changed and deleted, each for itself."""
    count = len(IDS)
    stage.create(space="l2")
    metadatas = [{"n": n} for n in range(count)]
    on_primary.write("add", ids=IDS, embeddings=[[1.0]] * count, metadatas=metadatas)
    stage.sync_and_judge()
    on_primary.write("update", ids=IDS[::2], documents=["new"] * len(IDS[::2]))
    on_primary.write("delete", ids=IDS[1::2])
    counts = stage.sync_and_judge().counts
    assert (counts.updated, counts.deleted) == (len(IDS[::2]), len(IDS[1::2]))
    on_primary.write("add", ids=IDS[1::2], embeddings=[[2.0]] * len(IDS[1::2]))
    assert stage.sync_and_judge().counts.inserted == len(IDS[1::2])
    assert set(stage.on_replica().get(include=[])["ids"]) == set(IDS)


@pytest.mark.long
def test_any_document(stage: Stage, on_primary: Rest) -> None:
    """Long and odd documents and uris are copied and changed whole."""
    texts = [
        "\x00",
        "a\r\nb\n",
        "  ",
        "日本語" * 30_000,
        "\u2028\ufeff\ufffd",
        "{}",
        "x" * 1_000_000,
    ]
    names = [str(n) for n in range(len(texts))]
    stage.create(space="l2")
    vectors = [[1.0]] * len(texts)
    on_primary.write("add", ids=names, embeddings=vectors, documents=texts, uris=texts)
    stage.sync_and_judge()
    turned = texts[1:] + texts[:1]
    on_primary.write("update", ids=names, documents=turned, uris=turned)
    assert stage.sync_and_judge().counts.updated == len(texts)
    assert stage.on_replica().get(ids=["5"])["documents"] == [texts[6]]
