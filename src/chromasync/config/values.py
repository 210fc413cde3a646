"""Readers of single values: URLs, lists, percentages, header objects, the memory limit.

Each reader takes the value from a flag, a variable or a file, and raises a ValueError with a reason
if it is not allowed. pydantic converts the result to the type of the field.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, PlainSerializer, SecretStr
from pydantic_settings import NoDecode

from chromasync.config.folders import read_folder
from chromasync.config.target import Target

SMALLEST_PERCENTAGE_LIMIT = 100
UNLIMITED_BYTES = 1 << 60
MEGABYTE = 1 << 20
SHORTEST_TOKEN = 16
LONGEST_SECONDS = 31 * 86400
"""Largest duration; clocks, sockets and threads fail at much larger numbers."""


@dataclass(frozen=True, slots=True)
class MaxDelete:
    """The delete guard's threshold: a number of records, or a percentage of a collection."""

    value: float
    is_percentage: bool

    @classmethod
    def parse(cls, given: object) -> Self:
        """Read `500` or `"10%"`; raises ValueError for anything else."""
        if isinstance(given, cls):
            return given
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", str(given))
        if found is None:
            raise ValueError("neither a count nor a percentage")
        value, is_percentage = float(found[1]), bool(found[2])
        if is_percentage and value > 100:
            raise ValueError("more than 100%")
        if not is_percentage and not value.is_integer():
            raise ValueError("a count is a whole number")
        return cls(value, is_percentage)

    @property
    def floor(self) -> int:
        """Records that a percentage always allows to delete; 0 for a count, and for never."""
        return SMALLEST_PERCENTAGE_LIMIT if self.is_percentage and self.value else 0

    def share(self, total: int) -> int:
        """Records of `total` that may be deleted by the count or the percentage alone."""
        return int(total * self.value / 100) if self.is_percentage else int(self.value)

    def limit(self, total: int) -> int:
        """Records of `total` that may be deleted without approval, with the floor."""
        return max(self.share(total), self.floor)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.is_percentage else str(int(self.value))


def read_list(given: object) -> object:
    """Split a text at its commas; other values stay as they are."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    return given


def read_json(given: object) -> object:
    """Parse a text as JSON; other values stay as they are."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None


def add_header(given: object, name: str, value: str) -> object:
    """The given header values, with one more unless it is there already."""
    try:
        headers = read_json(given or {})
    except ValueError:  # the field's own check reports the error
        return given
    return {name: value, **headers} if isinstance(headers, dict) else given


def read_fraction(given: object) -> object:
    """Turn `"25%"` into 0.25; refuse a bare 1; other values stay as they are.

    1.0 with its decimal point is a fraction like 0.25; processes pass it on in this form.
    """
    if str(given).strip() == "1":
        raise ValueError("a bare 1 can be read in two ways: write 100% or 1%")
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", str(given))
    return float(found[1]) / 100 if found else given


def read_optional(given: object) -> object:
    """Turn `off` into None; other values stay as they are."""
    return None if str(given).strip().lower() == "off" else given


def read_base_url(given: object) -> object:
    """Check a base URL and remove its trailing slash; an empty text stays empty.

    Some hosts hand out a private service's address as a bare `host:port`: that is plain http. A
    folder becomes its `file:` URL.
    """
    if not isinstance(given, str) or not given:
        return given
    text = given.strip()
    folder = read_folder(text)
    if folder is not None:
        return folder
    parts = _http_parts(f"http://{text}" if re.fullmatch(r"[\w.-]+:\d+", text) else text)
    if parts.query or parts.fragment:
        raise ValueError("a base URL has no ? or # part")
    if "@" in parts.path:
        # a password with a slash: what stands before it would be taken for the host, and shown
        raise ValueError("there is an @ behind the host; percent-encode it, and any / before it")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _http_parts(url: str) -> SplitResult:
    """The parts of a usable URL; it hides Python's errors, which may quote a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("its host or port cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("it does not start with http:// or https://")
    if not parts.hostname:
        raise ValueError("the host is missing")
    try:
        # the lookup of the host does the same; it fails on empty and on very long parts
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("no host can have such a name") from None
    return parts


def read_webhook_url(given: object) -> object:
    """Check a URL whose path and query are secrets; an empty text means none."""
    if not isinstance(given, str):
        return given
    text = given.strip()
    if text:
        _http_parts(text.partition("?")[0])
    return text or None


def read_alert_urls(given: object) -> object:
    """Split a text at the commas before a scheme, because such URLs may hold commas."""
    urls = re.split(r"[\s,]+(?=[A-Za-z][\w+.-]*://)", given) if isinstance(given, str) else given
    if not isinstance(urls, list | tuple):
        return urls
    found = [url.strip().rstrip(",") if isinstance(url, str) else url for url in urls]
    found = [url for url in found if url != ""]
    for number, url in enumerate(found, 1):
        if isinstance(url, str) and not re.fullmatch(r"[A-Za-z][\w+.-]*://\S+", url):
            raise ValueError(f"number {number} is no URL")
    return found


def read_http_token(given: object) -> object:
    """Check that a token is long enough, and can be a part of a header."""
    if isinstance(given, str) and given:
        if len(given) < SHORTEST_TOKEN:
            raise ValueError(f"it has fewer than {SHORTEST_TOKEN} characters")
        if not re.fullmatch(r"[!-~]+", given):
            raise ValueError("it has a space, or a character that is not ASCII")
    return given


def read_database_url(given: object) -> object:
    """Check the URL of a state store; `postgres://`, as some hosts write it, is corrected."""
    if not isinstance(given, str):
        return given
    text = re.sub(r"^postgres://", "postgresql://", given.strip())
    if not re.match(r"(sqlite:///.|postgresql(\+\w+)?://.)", text):
        raise ValueError("it names another kind of database")
    return text


def read_existing_file(given: object) -> object:
    """Check that a file exists."""
    if given is not None and not Path(str(given)).is_file():
        raise ValueError("there is no such file")
    return given


def cut_userinfo(url: object) -> tuple[str, object]:
    """Split `http://user:password@host` into `user:password`, unquoted, and the URL without it."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:  # the field's own check reports the error
        parts = None
    if parts is None or not parts.scheme or "@" not in parts.netloc:
        return "", url
    userinfo, _, host = parts.netloc.rpartition("@")
    return unquote(userinfo), parts._replace(netloc=host).geturl()


BaseUrl = Annotated[str, BeforeValidator(read_base_url)]
WebhookUrl = Annotated[SecretStr | None, BeforeValidator(read_webhook_url)]
HttpToken = Annotated[SecretStr | None, BeforeValidator(read_http_token)]
AlertUrls = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(read_alert_urls)]
DatabaseUrl = Annotated[SecretStr | None, BeforeValidator(read_database_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_list)]
OptionalNames = Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(read_list)]
Headers = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(read_json)]
ExistingFile = Annotated[Path | None, BeforeValidator(read_existing_file)]
Fraction = Annotated[float, BeforeValidator(read_fraction), Field(ge=0, le=1)]
Share = Annotated[float, BeforeValidator(read_fraction), Field(ge=0.01, le=1)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
OptionalSeconds = Annotated[Seconds | None, BeforeValidator(read_optional)]
Threshold = Annotated[
    MaxDelete,
    NoDecode,
    BeforeValidator(MaxDelete.parse),
    PlainSerializer(str, return_type=str),
]
TargetTemplate = Annotated[
    Target,
    NoDecode,
    BeforeValidator(Target.parse),
    PlainSerializer(str, return_type=str),
]


# ---- the container's memory limit ------------------------------------------------------------


def container_memory_mb(root: Path = Path("/")) -> int | None:
    """The memory limit of the container this process runs in, in MB; None without a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = [limit for line in lines for limit in _cgroup_limits(root, line)]
    # version 1 says "no limit" with the largest number that is a multiple of a page
    real = [limit for limit in limits if limit < UNLIMITED_BYTES]
    return min(real) // MEGABYTE if real else None


def _cgroup_limits(root: Path, line: str) -> list[int]:
    """The limits, in bytes, of the group in `line` and of its parent groups."""
    _, controllers, group = line.split(":", 2)
    if not controllers:
        base, name = root / "sys/fs/cgroup", "memory.max"
    elif "memory" in controllers.split(","):
        base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
    else:
        return []
    own = base / group.strip("/")
    found = []
    for folder in (own, *own.parents):
        if not folder.is_relative_to(base):
            break
        path = folder / name
        text = path.read_text().strip() if path.is_file() else "max"
        found += [int(text)] if text.isdigit() else []
    return found
