"""What is published: built once, installed in an empty environment, and used there.

CHROMASYNC_WHEEL names a wheel that was built before; without it, one is built from here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync import __version__
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import judge
from tests.support.stage import client_of, close_client, fill

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 150e6
LARGEST_WITH_CACHES = 190e6
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
GIVEN = "CHROMASYNC_WHEEL"
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import chromasync
for module in pkgutil.walk_packages(chromasync.__path__, "chromasync."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("chromasync")]))
print(sorted(name for name in sys.modules if name.partition(".")[0] == "chromadb"))
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an environment that leads to nothing of this repository."""
    kept = ("PATH", "HOME", "PIP_", "SSL_", "HTTP_", "HTTPS_", "http", "no_proxy", "NO_PROXY")
    inherited = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    return subprocess.run(
        command,
        cwd="/",
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for archives and environments, emptied at the end: it holds tens of megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def wheel(folder: Path) -> Path:
    """The wheel under test."""
    if given := os.environ.get(GIVEN):
        return Path(given).resolve()
    built = folder / "dist"
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        assert f"chromasync-{__version__}/tests/deploy/test_wheel.py" in files.getnames()
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture
def python(folder: Path, wheel: Path) -> Path:
    """The Python of an environment that holds the wheel and what it asks for, nothing else."""
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    done = run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def sizes_of(packages: Path) -> tuple[int, int]:
    """Bytes on disk of what is installed, and of Python's own caches of it; pip's left out."""
    files = [
        path
        for path in packages.rglob("*")
        if path.is_file() and not path.relative_to(packages).parts[0].startswith(INSTALLERS)
    ]
    blocks = {path: path.lstat().st_blocks * 512 for path in files}
    caches = sum(size for path, size in blocks.items() if path.suffix == ".pyc")
    return sum(blocks.values()) - caches, caches


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_wheel_does_in_an_empty_environment_what_it_promises(
    wheel: Path,
    python: Path,
    folder: Path,
    primary_server: ChromaServer,
    replica_server: ChromaServer,
) -> None:
    """Installed with nothing but what it asks for, it is small, needs no chromadb, and mirrors.

    One test, because installing takes longest and every process of a parallel run would do it anew.
    """
    assert_the_version_comes_from_one_place(wheel, python)
    assert_the_wheel_holds_the_package_alone(wheel)
    assert_no_module_needs_chromadb(python)
    assert_the_demo_says_which_extra_it_needs(python)
    assert_a_socks_proxy_says_which_extra_it_needs(python)
    assert_it_stays_small(python)
    assert_the_installed_command_mirrors(python, folder / "data", primary_server, replica_server)


def assert_the_version_comes_from_one_place(wheel: Path, python: Path) -> None:
    """File name, metadata and command agree with the package's own version."""
    assert wheel.name == f"chromasync-{__version__}-py3-none-any.whl"
    told = run(python.with_name("chromasync"), "--version")
    assert told.stdout == f"chromasync {__version__}\n", told.stderr


def assert_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    """No test, no document and no cache is installed with it; its types are."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "chromasync",
        f"chromasync-{__version__}.dist-info",
    }
    assert {"chromasync/py.typed", "chromasync/__init__.pyi"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith(".pyc")]


def assert_no_module_needs_chromadb(python: Path) -> None:
    """Every module can be imported where chromadb is not installed, and none tries to."""
    done = run(python, "-c", IMPORT_EVERYTHING)
    assert done.returncode == 0, done.stderr
    count, chromadb = done.stdout.splitlines()
    assert int(count) > 50
    assert chromadb == "[]"


def assert_the_demo_says_which_extra_it_needs(python: Path) -> None:
    """Without a local server, `chromasync demo` ends with a sentence and no traceback."""
    done = run(python.with_name("chromasync"), "demo")
    assert done.returncode == 4
    assert "chromasync[demo]" in done.stderr
    assert "Traceback" not in done.stderr


def assert_a_socks_proxy_says_which_extra_it_needs(python: Path) -> None:
    """Without the library that speaks SOCKS, such a proxy is a settings error that names both."""
    far = {"PRIMARY_URL": "http://one.example:8000", "REPLICA_URL": "http://two.example:8000"}
    done = run(python.with_name("chromasync"), "sync", ALL_PROXY="socks5://proxy.example", **far)
    assert done.returncode == 2, done.stderr
    assert "(from ALL_PROXY)" in done.stderr
    assert "chromasync[socks]" in done.stderr


def assert_it_stays_small(python: Path) -> None:
    """The package with everything it needs is small, and so are the files that pip compiles."""
    (packages,) = (python.parents[1] / "lib").glob("python3*/site-packages")
    installed, caches = sizes_of(packages)
    figures = f"{installed / 1e6:.0f} MB installed, and {caches / 1e6:.0f} MB of caches"
    print(figures)
    assert 10e6 < installed < LARGEST_BYTES, figures
    assert installed + caches < LARGEST_WITH_CACHES, figures


def assert_the_installed_command_mirrors(
    python: Path, data: Path, primary_server: ChromaServer, replica_server: ChromaServer
) -> None:
    """In the empty environment, `sync`, `verify`, `status` and `plan` do what the README says."""
    primary = client_of(primary_server.url, "default_database")
    replica = client_of(replica_server.url, "default_database")
    fill(primary.create_collection("docs", embedding_function=None), 1500)
    settings = {
        "PRIMARY_URL": primary_server.url,
        "REPLICA_URL": replica_server.url,
        "SYNC_DATA_DIR": str(data),
    }
    for name in ("sync", "verify", "status", "plan"):
        done = run(python.with_name("chromasync"), name, "--json", **settings)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        assert json.loads(done.stdout)["version"] == __version__
    judgement = judge(primary, replica)
    close_client(primary)
    close_client(replica)
    assert judgement.identical, (str(judgement), judgement.examples)
