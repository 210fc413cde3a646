"""Writes the keywords of the Python functions, with their types, from the settings themselves.

`python -m tools.keywords FILE` writes the module; a test compares it with what is there.
"""

from __future__ import annotations

import sys
import textwrap
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from chromasync.config import MaxDelete, Settings, Target
from chromasync.config.fields import field_extra
from chromasync.config.from_keywords import keyword_fields
from chromasync.config.shown import as_text

WIDTH = 90
HEAD = '''\
"""The settings as keywords of the Python functions. Written by `make docs` from the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict


class SettingKeywords(TypedDict, total=False):
    """Settings by keyword; whatever is left out, or None, has its default."""
'''
TYPES: dict[Any, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    SecretStr: "str",
    Path: "str | PathLike[str]",
    MaxDelete: "int | str",
    Target: "str",
    tuple[str, ...]: "str | Sequence[str]",
    tuple[SecretStr, ...]: "str | Sequence[str]",
    dict[str, SecretStr]: "Mapping[str, str]",
}
"""What callers pass for a field of a type."""


def module_text() -> str:
    """The text of `src/chromasync/keywords.py`."""
    fields = Settings.model_fields
    parts = [_keyword(name, field, fields[field]) for name, field in keyword_fields().items()]
    return "\n".join((HEAD, *parts))


def _keyword(name: str, field_name: str, field: FieldInfo) -> str:
    extra = field_extra(field)
    default = extra["shown"] or as_text(field_name, field.default)
    text = f"{field.description} Allowed: {extra['allowed']}. Default: {default}."
    filled = textwrap.fill(f'"""{text}', WIDTH, break_on_hyphens=False)
    lines = [f"{name}: {type_of(field)} | None", *f'{filled}"""'.splitlines()]
    return textwrap.indent("\n".join(lines), "    ") + "\n"


def type_of(field: FieldInfo) -> str:
    """The type of a keyword; raises KeyError for a field of a type that is not in TYPES."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    is_optional = NoneType in get_args(field.annotation)
    kind: Any = kinds[0] if is_optional and len(kinds) == 1 else field.annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if kind not in TYPES and isinstance(kind, type) and issubclass(kind, StrEnum):
        words = ", ".join(f'"{word}"' for word in kind)
        return f"Literal[{words}]"
    # some numbers are written in other ways, too
    allowed = field_extra(field)["allowed"]
    more = " | str" if kind is float and ("percentage" in allowed or "off" in allowed) else ""
    return TYPES[kind] + more


def main(path: str) -> None:
    """Write the module to `path`."""
    Path(path).write_text(module_text(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
