"""The page's own files: scripts, styles and templates, each address with a digest of the content.

Nothing comes from elsewhere, so the page works without a connection to the world. A browser may
keep a file for ever, because a changed file has another address.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chromasync.wording import words

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
KEPT = "public, max-age=31536000, immutable"
"""For addresses with a digest."""


@cache
def address(name: str) -> str:
    """Where the page finds a file, relative to the page."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"static/{name}?v={digest}"


def templates() -> Environment:
    """The templates; everything that they show is escaped."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["file"] = address
    for name in ("ago", "duration", "full_name", "moment", "number", "plain", "plural"):
        made.filters[name] = getattr(words, name)
    return made
