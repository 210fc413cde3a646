"""Words of alerts, made harmless for those who receive them.

Names of collections, hosts and records, and the messages of servers, may hold anything. A chat
would turn `@channel` into a call for everyone, `<!here>` too, and a URL into a link that somebody
else chose. So a name is shown as code, where chats look for none of these, without what ends the
code; other texts lose their backticks, and an invisible character breaks each mention and each URL.
"""

from __future__ import annotations

import re

MOST_NAME, MOST_TEXT = 120, 400
_BREAK = "\u200b"
_CALL = re.compile(r"(?<=@)(?=\w)")
_LINK = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)


def coded(name: str) -> str:
    """A name as code, such as `docs`."""
    return f"`{_cut(_harmless(name), MOST_NAME) or '?'}`"


def quoted(text: str) -> str:
    """A text by others as a part of a sentence, without its full stop."""
    return _cut(_harmless(text), MOST_TEXT).removesuffix(".")


def _harmless(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return _LINK.sub(_BREAK, _CALL.sub(_BREAK, printable.replace("`", "'"))).strip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 record`, `2,000 records`, `3 processes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
