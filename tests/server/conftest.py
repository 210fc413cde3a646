"""Fixtures of the transport tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.certificates import AUTHORITY, CERTIFICATE, KEY


@pytest.fixture
def pem(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate authority, and a certificate with its key for 127.0.0.1."""
    authority, leaf = tmp_path / "ca.pem", tmp_path / "leaf.pem"
    authority.write_text(AUTHORITY)
    leaf.write_text(CERTIFICATE + KEY)
    return authority, leaf
