"""The embedding of the demo: do its searches make sense?"""

import subprocess
import sys

import numpy as np
import pytest

from chromasync.lab.demo.corpus import LIBRARY, Passage, read_corpus
from chromasync.lab.demo.embedding import DIMENSION, TextEmbedding, word_vector, words_of
from chromasync.model import Floats


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return read_corpus({LIBRARY: 1700})[LIBRARY]


@pytest.fixture(scope="module")
def embed(passages: list[Passage]) -> TextEmbedding:
    return TextEmbedding([passage.text or "" for passage in passages])


@pytest.fixture(scope="module")
def rows(passages: list[Passage], embed: TextEmbedding) -> Floats:
    return embed([passage.text or "" for passage in passages])


def test_rows_are_unit_vectors_of_the_promised_shape(rows: Floats) -> None:
    """Each text becomes one float32 row of length 1."""
    assert rows.shape == (1700, DIMENSION)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_another_process_gives_the_same_vectors(embed: TextEmbedding) -> None:
    """The vectors do not depend on the process's hash seed."""
    code = (
        "import sys; from chromasync.lab.demo.embedding import TextEmbedding as T;"
        "sys.stdout.buffer.write(T(['one text', 'another text'])(['another reading']).tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    here = TextEmbedding(["one text", "another text"])(["another reading"])
    assert done.stdout == here.tobytes()


@pytest.mark.long
@pytest.mark.parametrize(
    ("question", "module"),
    [
        ("the median of a list of numbers", "statistics"),
        ("compress data into a zip archive", "zipfile"),
        ("read rows from a csv file", "csv"),
        ("parse a date and time", "datetime"),
        ("copy a whole directory tree", "shutil"),
        ("send an e-mail message over SMTP", "smtplib"),
        ("parse command line arguments and options", "argparse"),
    ],
)
def test_a_search_finds_the_module_that_is_about_it(
    question: str, module: str, passages: list[Passage], embed: TextEmbedding, rows: Floats
) -> None:
    """Among the three nearest passages of 1,700 is one of the module that the question is about."""
    nearest = np.argsort(-(rows @ embed([question])[0]))[:3]
    assert module in {passages[row].metadata["module"] for row in nearest}


def test_words_that_share_letters_are_nearer_than_others() -> None:
    """The runs of letters bring the forms of a word together."""
    forms = ("reader", "reading"), ("compress", "compression"), ("parse", "parser")
    others = ("reader", "marzipan"), ("compress", "harbour"), ("parse", "violin")

    def nearness(pairs: tuple[tuple[str, str], ...]) -> float:
        return float(np.mean([word_vector(one) @ word_vector(other) for one, other in pairs]))

    assert nearness(forms) > nearness(others) + 0.1


def test_names_are_read_as_words() -> None:
    """Names of code fall apart into the words they are made of."""
    assert words_of("readLine from_file HTTPServer 42") == [
        *("read", "line", "from", "file", "http", "server", "42")
    ]


def test_a_text_without_words_still_has_a_direction(embed: TextEmbedding) -> None:
    """Punctuation alone gives a finite unit vector rather than a division by zero."""
    assert np.linalg.norm(embed(["…!?"])[0]) == pytest.approx(1, abs=1e-5)
