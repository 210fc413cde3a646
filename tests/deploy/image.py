"""Carries out a Dockerfile without a Docker engine, as an unprivileged user, in one folder.

The folder stands for the image's `/`: every absolute path that the file names and that no base
image brings is a path below it. The base image's own part, a shell and Python, is this machine's.
A stage starts with an empty folder; `COPY --from` is the only way for a file to get into it from
another one, and `COPY` sees the build context through its ignore file alone.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

from tests.deploy.lifeline import lifeline

BASE_PATH = "/usr/local/bin:/usr/bin:/bin"
OWN_FOLDERS = ("/app", "/build", "/data")
OWN_PATH = re.compile(rf"(?<![\w/.-])({'|'.join(OWN_FOLDERS)})(?![\w.-])")
INSTALLERS_OWN = ("PIP_", "SSL_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_", "no_proxy")
"""How this machine reaches its package index is the builder's affair, not the image's."""
UNPRIVILEGED = 10001
LONGEST_BUILD_SECONDS = 500.0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    value: str
    line: int

    @property
    def words(self) -> list[str]:
        """Its words, or the list of its exec form."""
        words: list[str] = json.loads(self.value) if self.is_exec else shlex.split(self.value)
        return words

    @property
    def is_exec(self) -> bool:
        """Whether it is a JSON list, which no shell reads."""
        return self.value.startswith("[")


def instructions(dockerfile: Path) -> list[Instruction]:
    """The instructions of a Dockerfile as a real parser reads them, without the comments."""
    content: Any = io.BytesIO(dockerfile.read_bytes())  # its types ask for text, its code for bytes
    parser = DockerfileParser(fileobj=content)
    return [
        Instruction(part["instruction"], part["value"], part["startline"])
        for part in parser.structure
        if part["instruction"] != "COMMENT"
    ]


def health_command(of: Sequence[Instruction]) -> list[str]:
    """The command of the health check, which is in exec form."""
    (check,) = (i.value for i in of if i.name == "HEALTHCHECK")
    found = re.fullmatch(r"(?:--\S+\s+)*CMD\s+(\[.*\])", check)
    assert found is not None, "the health check is not in exec form"
    words: list[str] = json.loads(found[1])
    return words


@dataclass(slots=True)
class Stage:
    """What a stage has set so far."""

    name: str
    folder: str = "/"
    user: str = "0"
    environment: dict[str, str] = field(default_factory=dict)


class Image:
    """An image, built and run below `folder`, which the unprivileged user must be able to write.

    Args:
        dockerfile: the file, which lies in the build context; its ignore file lies beside it.
    """

    def __init__(self, dockerfile: Path, folder: Path) -> None:
        self.context = dockerfile.parent
        self.instructions = instructions(dockerfile)
        self.root = folder / "image"
        self._parked = folder / "stages"
        self._base = folder / "base"
        self._ignore = _ignore_patterns(dockerfile.with_name(dockerfile.name + ".dockerignore"))
        self.stage = Stage("")
        self.last: dict[str, Instruction] = {}

    # ---- building ---------------------------------------------------------------------------

    def build(self) -> None:
        """Carry out every instruction; raises AssertionError with the output of one that fails."""
        for folder in (self._parked, self._base):
            folder.mkdir(mode=0o755)
        (self._base / "python").symlink_to(unprivileged_python())
        handlers = {
            "FROM": self._from,
            "WORKDIR": self._workdir,
            "COPY": self._copy,
            "ENV": self._env,
            "RUN": self._run,
            "USER": self._user,
        }
        for instruction in self.instructions:
            self.last[instruction.name] = instruction
            if instruction.name not in ("CMD", "HEALTHCHECK", "STOPSIGNAL"):
                handlers[instruction.name](instruction)
        _protect(self.place("/app"))

    def _from(self, instruction: Instruction) -> None:
        if self.root.exists():
            # moved away, so that the next stage has the same paths, as it has in a real build
            self.root.rename(self._parked / self.stage.name)
        _, _, name = instruction.value.partition(" AS ")
        self.stage = Stage(name)
        self._make(self.root)

    def _workdir(self, instruction: Instruction) -> None:
        self.stage.folder = instruction.value
        self._make(self.place(instruction.value))

    def _env(self, instruction: Instruction) -> None:
        self.stage.environment |= dict(word.split("=", 1) for word in instruction.words)

    def _user(self, instruction: Instruction) -> None:
        self.stage.user = instruction.value

    def _copy(self, instruction: Instruction) -> None:
        words = instruction.words
        options = dict(w.removeprefix("--").split("=", 1) for w in words if w.startswith("--"))
        *sources, target = [w for w in words if not w.startswith("--")]
        assert set(options) <= {"from", "chown"}, options
        for source in sources:
            if stage := options.get("from"):
                found = self._parked / stage / source.lstrip("/")
            else:
                self._assert_in_context(source)
                found = self.context / source
            self._copy_one(found, self.place(target), into=target.endswith("/"))

    def _copy_one(self, source: Path, target: Path, *, into: bool) -> None:
        """Copy a file into a folder, or what is in a folder into another, as COPY does."""
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copy2(source, target / source.name if into else target)
        _give_away(target)

    def _assert_in_context(self, source: str) -> None:
        """The ignore file lets this name through; the last line that fits decides."""
        name, kept = source.rstrip("/"), True
        for pattern in self._ignore:
            if fnmatch.fnmatch(name, pattern.removeprefix("!")):
                kept = pattern.startswith("!")
        assert kept, f"{source} is not in the build context"

    def _run(self, instruction: Instruction) -> None:
        done = subprocess.run(
            ["sh", "-ec", self.rewrite(instruction.value)],
            cwd=self.place(self.stage.folder),
            env=self._build_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_BUILD_SECONDS,
            **unprivileged(),
        )
        where = f"line {instruction.line + 1}: {instruction.value}"
        assert done.returncode == 0, f"{where}\n{done.stdout}\n{done.stderr}"

    def _build_environment(self) -> dict[str, str]:
        installer = {k: v for k, v in os.environ.items() if k.startswith(INSTALLERS_OWN)}
        home = {"PATH": f"{self._base}:{BASE_PATH}", "HOME": str(self.root)}
        return installer | home | self._own_environment()

    # ---- running ----------------------------------------------------------------------------

    @property
    def command(self) -> list[str]:
        """What a container of this image runs."""
        return self.last["CMD"].words

    @property
    def health_command(self) -> list[str]:
        """What tells whether a container is healthy: exit code 0."""
        return health_command(self.instructions)

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """The environment of a container that is started with these variables."""
        return {"PATH": BASE_PATH, **self._own_environment(), **extra}

    def run(
        self, command: Sequence[str], extra: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, to its end."""
        return subprocess.run(
            command,
            cwd=self.place(self.stage.folder),
            env=self.environment(extra),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            **unprivileged(),
        )

    @contextmanager
    def running(self, extra: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """A container running the image's own command; killed at the end if it is still there."""
        environment = self.environment(extra)
        process = subprocess.Popen(
            self.command,
            executable=shutil.which(self.command[0], path=environment["PATH"]),
            cwd=self.place(self.stage.folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **unprivileged(),
        )
        with lifeline(process):
            yield process

    # ---- paths ------------------------------------------------------------------------------

    def place(self, path: str) -> Path:
        """Where a path of the image is on this machine."""
        return (
            self.root / self.stage.folder.lstrip("/") / path
            if path[0] != "/"
            else (self.root / path.lstrip("/"))
        )

    def rewrite(self, text: str) -> str:
        """`text` with the image's own folders where they are on this machine."""
        return OWN_PATH.sub(lambda found: str(self.place(found[1])), text)

    def _own_environment(self) -> dict[str, str]:
        return {name: self.rewrite(value) for name, value in self.stage.environment.items()}

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        _give_away(folder)


def unprivileged() -> dict[str, Any]:
    """Options that start a process as someone who may do nothing special."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []}


def unprivileged_python() -> str:
    """A Python of at least 3.11 that the unprivileged user can start, as a base image has one."""
    version = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    candidates = [getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"]
    for python in [*candidates, "/usr/local/bin/python3"]:
        try:
            subprocess.run([python, "-c", version], check=True, **unprivileged())
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(python)
    raise AssertionError(f"user {UNPRIVILEGED} can start none of {candidates}")


def _ignore_patterns(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _give_away(path: Path) -> None:
    """Let the unprivileged user own a path and all that is in it."""
    if os.geteuid() == 0:
        for each in (path, *path.rglob("*")):
            os.chown(each, UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)


def _protect(folder: Path) -> None:
    """Take the right to write away, as a container's read-only root file system does."""
    for each in (folder, *folder.rglob("*")):
        if not each.is_symlink():
            each.chmod(each.stat().st_mode & ~0o222)
