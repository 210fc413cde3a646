from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
GENERATED = {"__pycache__", "build", "dist"}
BINARY = {".png", ".ico", ".gz", ".db", ".whl", ".woff2"}
# Written in pieces, so that this file does not contain what it looks for.
REGISTRIES = [
    "py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb" + "ian.org",
    "crates" + ".io", "proxy.go" + "lang.org", "anaconda" + ".org", "hub.dock" + "er.com",
]  # fmt: skip
PLACES = [
    "/ho" + "me/",
    "/ro" + "ot/",
    "/wo" + "rk/",
    "/tmp/" + "lab",
    "/op" + "t/",
    "../sha" + "red",
]
FORBIDDEN = re.compile("|".join(map(re.escape, REGISTRIES + PLACES)), re.IGNORECASE)


def is_generated(path: Path) -> bool:
    """Whether a path of an unpacked archive was made by a tool: hidden folders but .ci are."""
    folders = path.parts[:-1]
    return any(f in GENERATED or (f.startswith(".") and f != ".ci") for f in folders)


def working_tree() -> Iterator[Path]:
    """Every text file that belongs to the project, committed or not yet."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        names = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:  # an unpacked source archive has no git
        names = [p for p in ROOT.rglob("*") if not is_generated(p.relative_to(ROOT))]
    yield from (path for path in names if path.is_file() and path.suffix not in BINARY)


def test_no_file_names_a_registry_or_a_place_of_one_machine() -> None:
    """What is installed from where is the installer's business, and no path is one machine's."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in working_tree()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := FORBIDDEN.search(line))
    ]
    assert not found, "\n".join(found)


def test_the_scan_sees_this_very_file_and_what_it_looks_for() -> None:
    """The scan above reads the project's files and would find a forbidden text."""
    assert Path(__file__) in set(working_tree())
    assert FORBIDDEN.search("see https://" + "PY" + "PI.org/simple")
    assert FORBIDDEN.search("cd /ho" + "me/someone")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem
)
def test_every_test_says_its_behaviour_in_one_sentence(path: Path) -> None:
    """Each test function has a docstring that is a sentence."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            text = (ast.get_docstring(node) or "").strip()
            assert text.endswith("."), f"{node.name} needs one sentence of docstring"


def test_everything_that_is_asked_for_is_pinned() -> None:
    """Each dependency of the project and its extras has a pin that fits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [Requirement(text) for text in sum(extras, project["dependencies"])]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in wanted:
        if requirement.name != project["name"]:
            version = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_every_make_target_is_documented() -> None:
    """`make help` and CONTRIBUTING.md list every target that people call."""
    makefile = (ROOT / "Makefile").read_text()
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in " ".join(phony).split():
        assert re.search(rf"^{target}:.* ## \S", makefile, re.MULTILINE), target
        assert f"`make {target}`" in contributing, target
