"""A Markdown page as something that can be run: fenced blocks, their commands, their output."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^ *(?:```+|~~~+) *(.*)$")
PROMPT, MORE = "$ ", "> "
INTERRUPT = "^C"
ANYTHING = "…"
ASK_CODE = "echo $?"

SHAPES = (
    (re.compile(r"\S+:\d+:[\d.]+:[0-9a-f]{8}"), "WORKER"),
    (re.compile(r", on task \d+(?=, last heard)"), ""),
    (re.compile(r"(?<=% CPU\.) It is throttled; .*"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z| UTC)"), "INSTANT"),
    (re.compile(r"\b\d[\d.]* (d|h|min|s)\b( \d+ (h|min|s)\b)?"), "DURATION"),
    (re.compile(r"\b\d[\d.]* (bytes|[kMG]B)(?!\w)"), "SIZE"),
    (re.compile(r"\d[\d.,]*\d|\d"), "NUMBER"),
    (re.compile("─+"), "─"),
    (re.compile(r"\s+"), " "),
)
"""What differs from run to run, and what stands for it."""
EXACT = re.compile(r"(.*: )?\d")
"""An exit code or a count, alone or at the end of a label: that is what the page is about."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, and the heading that it stands under."""

    section: str
    language: str
    text: str


@dataclass(slots=True)
class Step:
    """One command of a console block.

    Attributes:
        command: as it is typed, without the prompt.
        output: what the page shows of what it says.
        interrupted: whether Ctrl-C ends it, once it has said that.
        failing: whether the page goes on to look at its exit code, so that it may be any.
    """

    command: str
    output: list[str] = field(default_factory=list)
    interrupted: bool = False
    failing: bool = False


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order; raises ValueError when one is left open."""
    section, language = "", ""
    inside: list[str] | None = None
    for line in text.splitlines():
        fence = FENCE.match(line)
        if inside is not None and fence:
            yield Block(section, language, "\n".join(inside))
            inside = None
        elif inside is not None:
            inside.append(line)
        elif fence:
            language, inside = fence[1].strip(), []
        elif line.startswith("## "):
            section = line[3:]
    if inside is not None:
        raise ValueError(f"a block under {section!r} is left open")


def steps_of(block: Block) -> list[Step]:
    """The commands of a console block; raises ValueError for a block without any."""
    steps: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith(PROMPT):
            command = line.removeprefix(PROMPT)
            if steps and command == ASK_CODE:
                steps[-1].failing = True
            steps.append(Step(command))
        elif not steps:
            raise ValueError(f"{line!r} under {block.section!r} follows no command")
        elif line.startswith(MORE) and not steps[-1].output:
            steps[-1].command += "\n" + line.removeprefix(MORE)
        elif line == INTERRUPT:
            steps[-1].interrupted = True
        elif line.strip():
            steps[-1].output.append(line)
    if not steps:
        raise ValueError(f"a console block under {block.section!r} has no command")
    return steps


def shape(line: str) -> str:
    """A line without what differs from run to run."""
    if EXACT.fullmatch(line.strip()):
        return line.strip()
    for pattern, name in SHAPES:
        line = pattern.sub(name, line)
    return line.strip()


def first_unsaid(expected: Sequence[str], said: Sequence[str]) -> str | None:
    """The first line of `expected` that was not said where it should be; None when all were.

    Numbers, sizes and times are free, but for exit codes and single counts. A line `…` stands for
    any lines, `…` at an end for any rest.
    """
    lines = [shape(line) for line in said if line.strip()]
    at, anywhere = 0, False
    for line in expected:
        if line.strip() == ANYTHING:
            anywhere = True
            continue
        places = range(at, len(lines) if anywhere else min(at + 1, len(lines)))
        found = next((place for place in places if _matches(line, lines[place])), None)
        if found is None:
            return line
        at, anywhere = found + 1, False
    return None if anywhere or at == len(lines) or not expected else "(the end)"


def _matches(expected: str, shaped: str) -> bool:
    if expected.endswith(ANYTHING):
        return shaped.startswith(shape(expected.removesuffix(ANYTHING)))
    return shape(expected) == shaped


def read_page(path: Path) -> list[Block]:
    """The fenced blocks of a file."""
    return list(blocks_of(path.read_text(encoding="utf-8")))
