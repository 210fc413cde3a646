from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chromasync import __version__
from chromasync.lab.chroma_server import ChromaServer, free_port
from chromasync.lab.judge import judge
from tests.deploy.image import UNPRIVILEGED, Image, instructions
from tests.support.stage import client_of, close_client, fill

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.sync"
GRACE_SECONDS = 30.0
LONGEST_SECONDS = 180.0


@pytest.fixture
def image() -> Iterator[Image]:
    """The image, built by an unprivileged user in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="chromasync-image-"))
    folder.chmod(0o755)
    image = Image(DOCKERFILE, folder)
    try:
        image.build()
        yield image
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    """hadolint, which knows Docker's grammar and its pitfalls, has nothing to say."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_process_runs_as_nobody_special_and_gets_the_signal() -> None:
    """The last stage ends with a numeric user, not root, and an exec-form command."""
    last = {i.name: i for i in instructions(DOCKERFILE)}
    user, _, group = last["USER"].value.partition(":")
    assert int(user) == int(group) == UNPRIVILEGED
    assert last["STOPSIGNAL"].value == "SIGTERM"
    assert last["CMD"].is_exec
    assert last["CMD"].words == ["chromasync", "run"]
    assert "ENTRYPOINT" not in last  # so that `docker run chromasync chromasync status` is plain


def test_every_stage_starts_from_the_same_pinned_base() -> None:
    """Both stages name one base image by a full version, so the environment fits the Python."""
    bases = {i.value.partition(" AS ")[0] for i in instructions(DOCKERFILE) if i.name == "FROM"}
    assert len(bases) == 1
    name, _, tag = bases.pop().partition(":")
    assert name == "python"
    assert tag.count(".") == 1
    assert tag.endswith("-slim-bookworm")


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_image_is_built_by_anyone_and_runs_as_a_container_would(
    image: Image, primary_server: ChromaServer, replica_server: ChromaServer
) -> None:
    """What the file builds is small and pinned, mirrors with two URLs alone, and tells its health.

    One test, because building takes longest and every process of a parallel run would build anew.
    """
    assert_only_pinned_packages(image)
    assert_program_and_an_empty_data_folder(image)
    assert_health_is_of_the_store(image)
    assert_a_container_mirrors_and_ends_in_order(image, primary_server, replica_server)


# ---- the steps of the test above -----------------------------------------------------------------


def assert_only_pinned_packages(image: Image) -> None:
    """Every package in the image has the version of constraints.txt; no tool is in it."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {line.lower().replace("_", "-") for line in lines if not line.startswith("#")}
    listing = (
        "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    )
    done = image.run([str(image.place("/app/bin/python")), "-c", listing], {})
    installed = {"==".join(line.split()).lower() for line in done.stdout.splitlines()}
    packages = {name.replace("_", "-") for name in installed}
    assert packages - pins == {f"chromasync=={__version__}"}
    assert not {p for p in packages if p.startswith(("pip==", "hatchling==", "chromadb=="))}


def assert_program_and_an_empty_data_folder(image: Image) -> None:
    """Sources, constraints and tools stay in the build stage; only the data folder is writable."""
    assert sorted(path.name for path in image.root.iterdir()) == ["app", "data"]
    assert not list(image.place("/data").iterdir())
    done = image.run(["chromasync", "--version"], {})
    assert done.stdout == f"chromasync {__version__}\n", done.stderr
    assert image.run(["touch", str(image.place("/app/probe"))], {}).returncode != 0


def assert_health_is_of_the_store(image: Image) -> None:
    """Healthy: a container without collections. Not: a wrong setting, a state that is broken."""
    assert image.run(image.health_command, {}).returncode == 0
    assert image.run(image.health_command, {"SYNC_CHUNK_SIZE": "many"}).returncode != 0
    state = image.place("/data/chromasync.db")
    assert image.run(["sh", "-c", f"echo nonsense > {state}"], {}).returncode == 0
    assert status(image, {})["error"]
    assert image.run(image.health_command, {}).returncode != 0
    state.unlink()
    assert image.run(image.health_command, {"PORT": "1"}).returncode != 0


def assert_a_container_mirrors_and_ends_in_order(
    image: Image, primary_server: ChromaServer, replica_server: ChromaServer
) -> None:
    """With two URLs alone it mirrors, reports healthy, and obeys SIGTERM in time."""
    urls = {"PRIMARY_URL": primary_server.url, "REPLICA_URL": replica_server.url}
    urls["PORT"] = str(free_port())  # so the health check asks the page
    primary = client_of(primary_server.url, "default_database")
    replica = client_of(replica_server.url, "default_database")
    fill(primary.create_collection("docs", embedding_function=None), 1500)
    with image.running(urls) as process:
        wait_until(lambda: status(image, urls).get("exit_code") == 0, process)
        health = image.run(image.health_command, urls)
        assert health.returncode == 0, health.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_SECONDS) == 0
    assert_identical(primary, replica)
    assert image.place("/data/chromasync.db").exists()


def wait_until(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until `what` holds, while the process lives."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not what():
        assert process.poll() is None, f"ended with exit code {process.returncode}"
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.1)


def status(image: Image, environment: dict[str, str]) -> dict[str, object]:
    """What `chromasync status --json` prints in the container."""
    done = image.run(["chromasync", "status", "--json"], environment)
    document: dict[str, object] = json.loads(done.stdout)
    return document if document.get("collections") or document.get("error") else {}


def assert_identical(primary: ClientAPI, replica: ClientAPI) -> None:
    """The official client sees no difference."""
    judgement = judge(primary, replica)
    close_client(primary)
    close_client(replica)
    assert judgement.identical, (str(judgement), judgement.examples)
    assert judgement.records
