"""Real text that every machine with Python has: the documentation inside its standard library.

It makes three collections, always the same for one version of Python:

* `language-reference`: the topics of `help()`, and the docstrings of the built-in types;
* `library-docs`: the docstrings of modules, classes and functions of well-known modules;
* `module-index`: one record for each module, some of them without any text.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import pkgutil
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain, islice, tee
from pathlib import Path
from typing import Protocol, cast

from chromasync.errors import ChromasyncError
from chromasync.model import Metadata

LANGUAGE = "language-reference"
LIBRARY = "library-docs"
MODULES = "module-index"

LONGEST_PASSAGE = 800
SHORTEST_PASSAGE = 60
PARTS_OF_A_TOPIC = 6

WELL_KNOWN = """
json csv pathlib datetime re statistics asyncio logging sqlite3 urllib http email random
collections itertools functools decimal fractions zipfile tarfile subprocess threading
multiprocessing concurrent socket ssl argparse configparser unittest shutil tempfile os calendar
heapq bisect textwrap string hashlib hmac secrets pickle copy dataclasses enum typing contextlib
inspect ast difflib glob fnmatch gzip bz2 lzma locale gettext queue sched smtplib imaplib ftplib
xml html uuid ipaddress wave colorsys cmd shlex pdb timeit trace
"""
LEFT_OUT = {"antigravity", "ensurepip", "idlelib", "lib2to3", "test", "this", "tkinter"}


class TooLittleText(ChromasyncError):
    """This Python has no sources of its standard library."""


class _Loader(Protocol):
    def get_source(self, fullname: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Passage:
    """The content of one record; `text` is None for a module without a docstring."""

    id: str
    title: str
    text: str | None
    metadata: Metadata
    uri: str | None


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the standard library, parsed."""

    name: str
    source: str
    tree: ast.Module
    is_package: bool


Corpus = dict[str, list[Passage]]


def read_corpus(limits: dict[str, int] | None = None) -> Corpus:
    """The passages of the three collections, at most `limits[collection]` of each.

    Raises:
        TooLittleText: this Python has almost no documentation.
    """
    limits = limits or {LANGUAGE: 640, LIBRARY: 1700, MODULES: 180}
    documented, listed = tee(_modules())
    sources = {
        LANGUAGE: chain(_topics(), _builtins()),
        LIBRARY: chain.from_iterable(map(_docstrings, documented)),
        MODULES: map(_summary, listed),
    }
    corpus = {name: list(islice(_distinct(sources[name]), limits[name])) for name in limits}
    thin = [name for name, passages in corpus.items() if len(passages) < min(100, limits[name])]
    if thin:
        raise TooLittleText(
            f"This Python has too little text for the demo's collection {thin[0]!r}.",
            hint="Use a Python that has the sources of its standard library beside it.",
        )
    return corpus


def _distinct(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Leaves out repeated ids, and repeated texts: equal embeddings make a search ambiguous."""
    ids: set[str] = set()
    texts: set[str] = set()
    for passage in passages:
        if passage.id in ids or (passage.text is not None and passage.text in texts):
            continue
        ids.add(passage.id)
        texts.add(passage.text or "")
        yield passage


# ---- the language reference ------------------------------------------------------------------


def _topics() -> Iterator[Passage]:
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415 - slim installations leave it out
    except ImportError:  # the built-in types remain
        return
    for topic in sorted(topics):
        yield from _language_passages(topic, f"help:{topic}", topics[topic], kind="topic")


def _builtins() -> Iterator[Passage]:
    for name, thing in sorted(vars(builtins).items()):
        if name.startswith("_") or not callable(thing):
            continue
        yield from _language_passages(name, f"pydoc:{name}", inspect.getdoc(thing), kind="builtin")
        if not isinstance(thing, type) or issubclass(thing, BaseException):
            continue
        for member, method in sorted(vars(thing).items()):
            title = f"{name}.{member}"
            text = None if member.startswith("_") else inspect.getdoc(method)
            yield from _language_passages(title, f"pydoc:{title}", text, kind="builtin")


def _language_passages(title: str, uri: str, text: str | None, *, kind: str) -> Iterator[Passage]:
    passages = islice(split_text(text or ""), PARTS_OF_A_TOPIC)
    for part, passage in enumerate(passages, start=1):
        words = len(passage.split())
        yield Passage(
            id=f"§ {title} ¶{part}",
            title=title,
            text=f"{title}: {passage}" if part > 1 or kind == "builtin" else passage,
            metadata={
                "topic": title,
                "kind": kind,
                "part": part,
                "words": words,
                "has_example": ">>>" in passage,
                "reading_minutes": round(words / 220, 3),
            },
            uri=uri,
        )


# ---- the library -----------------------------------------------------------------------------


def _modules() -> Iterator[Module]:
    """Parsed modules of the standard library, well-known ones first, the others by name."""
    well_known = WELL_KNOWN.split()
    others = sorted(set(sys.stdlib_module_names) - set(well_known) - LEFT_OUT)
    for name in chain(well_known, (name for name in others if not name.startswith("_"))):
        spec = PathFinder.find_spec(name, _library_path())
        if spec is not None:
            yield from _parse(spec)


def _library_path() -> list[str]:
    folder = sysconfig.get_path("stdlib")
    zipped = Path(folder).parent / f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return [folder, str(zipped)]


def _parse(spec: ModuleSpec) -> Iterator[Module]:
    source = cast("_Loader", spec.loader).get_source(spec.name) if spec.has_location else None
    inside = spec.submodule_search_locations
    if source is not None:
        yield Module(spec.name, source, ast.parse(source), inside is not None)
    for child in sorted(pkgutil.iter_modules(inside or []), key=lambda info: info.name):
        found = PathFinder.find_spec(f"{spec.name}.{child.name}", inside)
        if found is not None and not child.name.startswith("_") and child.name not in LEFT_OUT:
            yield from _parse(found)


Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _documented(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Documented]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Documented) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from _documented(child, f"{prefix}{child.name}.")


def _docstrings(module: Module) -> Iterator[Passage]:
    text = ast.get_docstring(module.tree)
    if text is not None:
        yield from _library_passages(module.name, "", {"kind": "module", "line": 1}, text)
    for name, node in _documented(module.tree):
        text = ast.get_docstring(node)
        if text is not None:
            yield from _library_passages(module.name, name, _about(node), text)


def _about(node: Documented) -> Metadata:
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    names = _names(node)
    about: Metadata = {"kind": kind, "line": node.lineno}
    return about | {"names": list(names)} if names else about


def _names(node: Documented) -> list[str]:
    """The parameters of a function, the bases of a class."""
    if isinstance(node, ast.ClassDef):
        return [ast.unparse(base) for base in node.bases]
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def _library_passages(module: str, name: str, about: Metadata, text: str) -> Iterator[Passage]:
    title = f"{module}.{name}" if name else module
    for part, passage in enumerate(split_text(text), start=1):
        metadata: Metadata = {
            **about,
            "module": module.partition(".")[0],
            "part": part,
            "words": len(passage.split()),
            "letters_per_word": round(len(passage) / len(passage.split()), 3),
            "deprecated": "deprecated" in passage.lower(),
        }
        yield Passage(
            id=f"{module} » {name} ¶{part}" if name else f"{module} ¶{part}",
            title=title,
            text=f"{title}: {passage}",
            metadata=metadata,
            uri=f"pydoc:{title}",
        )


def _summary(module: Module) -> Passage:
    text = ast.get_docstring(module.tree)
    lines = module.source.splitlines()
    comments = sum(line.lstrip().startswith("#") for line in lines)
    metadata: Metadata = {
        "lines": len(lines),
        "comment_share": round(comments / max(1, len(lines)), 4),
        "package": module.is_package,
        "functions": len(re.findall(r"^\s*(?:async )?def ", module.source, re.MULTILINE)),
    }
    imports = sorted({name for node in module.tree.body for name in _imported(node)})
    if imports:
        metadata["imports"] = list(imports)
    return Passage(
        id=f"module:{module.name}",
        title=module.name,
        text=next(split_text(f"{module.name}: {text}", shortest=1), None) if text else None,
        metadata=metadata,
        uri=f"pydoc:{module.name}",
    )


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def split_text(text: str, shortest: int = SHORTEST_PASSAGE) -> Iterator[str]:
    """Passages of whole paragraphs, none longer than allowed; a short rest may be dropped."""
    passage = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        for piece in textwrap.wrap(" ".join(paragraph.split()), LONGEST_PASSAGE):
            if passage and len(passage) + len(piece) > LONGEST_PASSAGE:
                yield passage
                passage = ""
            passage = f"{passage}\n{piece}" if passage else piece
    if len(passage) >= shortest:
        yield passage
