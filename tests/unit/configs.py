"""What tests of settings share: two servers, and what is said of a variable."""

from __future__ import annotations

import pytest

from chromasync.config import load_settings
from chromasync.errors import SettingsError

ONE, TWO = "http://one:8000", "http://two:8000"


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """What is said about a variable that is not accepted."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)
