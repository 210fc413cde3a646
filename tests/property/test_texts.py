"""Long texts get the bytes in JSON that short ones get."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.model import for_json
from chromasync.model.texts import LONG_TEXT

BEGINNING = "x" * LONG_TEXT


@given(st.text())
def test_a_long_text_is_written_as_orjson_writes_it(end: str) -> None:
    """Digests of long documents stay what they were, whatever their characters."""
    text = BEGINNING + end
    assert isinstance(for_json(text), orjson.Fragment)
    assert orjson.dumps([for_json(text), 1]) == orjson.dumps([text, 1])


def test_every_character_of_one_unit_is_written_alike() -> None:
    """The two programs escape the same characters in the same way."""
    text = BEGINNING + "".join(chr(code) for code in range(0xD800))
    assert orjson.dumps(for_json(text)) == orjson.dumps(text)


def test_short_texts_stay_as_they_are() -> None:
    """And so does a text that is none, or that JSON cannot hold."""
    assert for_json("short") == "short"
    assert for_json(None) is None
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps(for_json(BEGINNING + "\ud800"))
