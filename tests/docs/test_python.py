"""The page about Python, run: every block of it, in order, against real servers."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chromasync
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import close, judge
from chromasync.reports import Outcome
from tests.cli.fakes import cycle_report
from tests.docs.pages import read_page
from tests.support.stage import ROOT, client_of, close_client, fill

PAGE = ROOT / "docs" / "python.md"
BLOCKS = read_page(PAGE)
PRIMARY, REPLICA = "http://primary:8000", "http://replica:8000"
STORE = "postgresql://sync:secret@db/sync"
AIRFLOW, TESTS = "In Airflow", "In tests"
SCRIPTS = [block for block in BLOCKS if block.section not in (AIRFLOW, TESTS)]


def only(section: str) -> str:
    """The one block of a section."""
    (block,) = (block for block in BLOCKS if block.section == section)
    return block.text


def load(path: Path, text: str) -> ModuleType:
    """A file with this text, imported as Airflow and pytest import one."""
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add(clients: list[Any], client: Any) -> Any:
    """Note a client, so that it can be closed."""
    clients.append(client)
    return client


def test_no_block_of_the_page_is_left_out() -> None:
    """Each block is Python, and one of the tests below runs it."""
    assert {block.language for block in BLOCKS} == {"python"}
    assert len(SCRIPTS) == len(BLOCKS) - 2
    assert len(SCRIPTS) > 5
    for block in SCRIPTS:
        ast.parse(block.text)


@pytest.fixture
def moved(
    primary_server: ChromaServer,
    replica_server: ChromaServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], str]]:
    """The text of a block with the addresses of two real servers, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    primary = client_of(primary_server.url, "default_database")
    replica = client_of(replica_server.url, "default_database")
    fill(primary.create_collection("docs", embedding_function=None), 40)
    fill(primary.create_collection("tmp-notes", embedding_function=None), 2)
    yield (
        lambda text: (
            text.replace(PRIMARY, primary_server.url)
            .replace(REPLICA, replica_server.url)
            .replace(STORE, "sqlite:///airflow.db")
        )
    )
    judgement = judge(primary, replica)
    close_client(primary)
    close_client(replica)
    assert judgement.identical, (str(judgement), judgement.examples)


@pytest.mark.long
def test_each_script_of_the_page_runs(
    moved: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks are run in order, each alone, and print what they say."""
    said = []
    for block in SCRIPTS:
        exec(compile(moved(block.text), PAGE.name, "exec"), {"__name__": "page"})  # noqa: S102
        said.append(capsys.readouterr().out.strip())
    assert said[0].startswith("identical 20")
    assert said[1].startswith("True 0 bytes")
    assert said[2].startswith("SYNC_CHUNK_SIZE given as a keyword is 0; allowed:")
    assert re.match(r"docs \d+ 0 0\ntmp-notes \d 0 0$", said[3])
    assert said[5].startswith("True ")
    assert said[6].startswith("walking")


@pytest.mark.long
def test_the_file_for_airflow_runs(
    moved: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Airflow would find a flow with one task; the function of the task mirrors, or raises."""
    flows: list[tuple[str, list[Any]]] = []
    tasks: list[Any] = []
    sdk: Any = ModuleType("airflow.sdk")

    def dag(**options: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
        def decorate(function: Callable[[], None]) -> Callable[[], None]:
            def build() -> None:
                function()
                flows.append((function.__name__, list(tasks)))

            return build

        assert options["max_active_runs"] == 1
        return decorate

    def task(function: Any, **options: Any) -> Callable[[], None]:
        return lambda: tasks.append((function, options))

    sdk.dag, sdk.task = dag, task
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    module = load(tmp_path / "mirror.py", moved(only(AIRFLOW)))
    assert flows == [("mirror_chroma", [(module.mirror, {"retries": 2})])]
    assert module.mirror().startswith("identical as of 20")
    monkeypatch.setattr(chromasync, "sync", lambda **_: cycle_report(Outcome.HELD))
    with pytest.raises(RuntimeError, match="The replica is held"):
        module.mirror()


@pytest.mark.long
def test_the_example_of_a_test_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes as it stands on the page."""
    import chromadb

    clients: list[Any] = []
    connect = chromadb.HttpClient
    monkeypatch.setattr(
        chromadb, "HttpClient", lambda *place, **more: add(clients, connect(*place, **more))
    )
    module = load(tmp_path / "test_mirror.py", only(TESTS))
    module.test_a_search_survives_the_primary(tmp_path)
    for client in clients:
        close(client)
