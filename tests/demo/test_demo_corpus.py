"""The text of the demo."""

import sys

import pytest

from chromasync.lab.demo import corpus
from chromasync.lab.demo.corpus import (
    LANGUAGE,
    LIBRARY,
    LONGEST_PASSAGE,
    MODULES,
    Corpus,
    TooLittleText,
    read_corpus,
    split_text,
)

SMALL = {LANGUAGE: 120, LIBRARY: 150, MODULES: 100}


@pytest.fixture(scope="module")
def small() -> Corpus:
    return read_corpus(SMALL)


def test_the_corpus_is_the_same_each_time(small: Corpus) -> None:
    """Two readings give the same passages in the same order."""
    assert read_corpus(SMALL) == small


def test_each_collection_gives_as_many_passages_as_asked_for(small: Corpus) -> None:
    """A Python with its sources has text enough."""
    assert {name: len(passages) for name, passages in small.items()} == SMALL


def test_ids_and_texts_are_distinct(small: Corpus) -> None:
    """No id occurs twice, and no text does, because equal texts have equal embeddings."""
    for passages in small.values():
        ids = [passage.id for passage in passages]
        texts = [passage.text for passage in passages if passage.text is not None]
        assert len(set(ids)) == len(ids)
        assert len(set(texts)) == len(texts)


def test_the_records_are_varied(small: Corpus) -> None:
    """Metadata has every type, ids are not plain ASCII, and some records have no text."""
    passages = [passage for part in small.values() for passage in part]
    types = {type(value) for passage in passages for value in passage.metadata.values()}
    assert types == {str, int, float, bool, list}
    assert not all(passage.id.isascii() for passage in passages)
    assert any(passage.text is None for passage in small[MODULES])
    assert all(passage.text for passage in small[LIBRARY])


def test_builtin_types_stand_in_for_missing_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slim Python without the topics of help() still fills the language reference."""
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    passages = read_corpus(SMALL)[LANGUAGE]
    assert len(passages) == SMALL[LANGUAGE]
    assert {passage.metadata["kind"] for passage in passages} == {"builtin"}


def test_a_python_without_sources_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sources of the library the demo says what is missing, and does not start."""
    monkeypatch.setattr(corpus, "_library_path", list)
    with pytest.raises(TooLittleText, match="library-docs") as caught:
        read_corpus(SMALL)
    assert "sources of its standard library" in caught.value.hint


def test_passages_keep_all_words_in_order() -> None:
    """Cutting a text loses nothing but short remains, and keeps the length limit."""
    words = [f"word{i}" for i in range(2000)]
    paragraphs = [" ".join(words[i : i + 170]) for i in range(0, len(words), 170)]
    passages = list(split_text("\n\n".join(paragraphs), shortest=1))
    assert " ".join(passages).split() == words
    assert max(map(len, passages)) <= LONGEST_PASSAGE + 1
    assert list(split_text("too short")) == []
