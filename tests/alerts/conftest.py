"""Fixtures of the alerts' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.alerts.post import Post


@pytest.fixture
def post() -> Iterator[Post]:
    """A receiver of webhooks on loopback."""
    with Post() as post:
        yield post
