"""The deployment guide, followed: every block of the page is run, in order, against real servers.

A section with blocks must have its follower in FOLLOWERS, and a follower runs all blocks of its
sections, so that nothing can be added to the page that is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from chromasync.cli.commands import program
from chromasync.config import DATABASE_FILE, Role
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.wording.words import duration
from tests.distributed.fleet import Fleet
from tests.docs.deployment import Deployment, assert_reader_only_reads, statements
from tests.docs.pages import Block, blocks_of, first_unsaid, read_page, steps_of
from tests.docs.shell import Shell, shell
from tests.support.stage import ROOT, Servers, Stage, client_of, close_client, fill

PAGE = ROOT / "docs" / "guide.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = read_page(PAGE)

NEWCOMER = ("From nothing to a verified replica", "When to share the work")
SELFTEST = ("Test before scaling",)
PHASES = ("Phases", "Monitoring", "Success criteria", "The way back")
FOLLOWERS = {"console": (*NEWCOMER, *SELFTEST, *PHASES), "env": PHASES, "sql": PHASES}
"""The sections whose blocks of a language some test below runs."""

PRIMARY, REPLICA = "http://primary:8000", "http://replica:8000"
STORE = "postgresql://sync:secret@database/sync"
"""The addresses that the page invents."""

CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "src")
WRONG = (
    "$ false",
    "$ echo yes\nno",
    "$ echo yes; echo more\nyes",
    '$ false; echo "well: $?"\nwell: 0',
    "$ echo 2\n3",
)
"""Commands that do not do what a page says of them."""
RECORDS = (100_000, 500_000, 2_000_000, 10_000_000)
BUDGET_SECONDS = 0.25 * 300


def blocks_in(sections: Iterable[str], blocks: Iterable[Block] = BLOCKS) -> list[Block]:
    """The blocks of these sections, in the page's order."""
    return [block for block in blocks if block.section in sections]


def unfollowed(blocks: Iterable[Block]) -> list[Block]:
    """Blocks that no test runs."""
    return [b for b in blocks if b.section not in FOLLOWERS.get(b.language, ())]


def tools(folder: Path, **more: str) -> dict[str, str]:
    """The environment of someone who has set nothing yet, with this Python first on the path."""
    bin_folder = Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "HOME": str(folder), "PYTHONUTF8": "1", "LANG": "C.UTF-8"} | more


def follow(terminal: Shell, blocks: Iterable[Block]) -> None:
    """Type every command of console blocks, in order."""
    for block in blocks:
        for step in steps_of(block):
            terminal.follow(step)


# ---- the page itself ------------------------------------------------------------------------


def test_no_block_of_the_guide_is_left_out() -> None:
    """Every fenced block is of a language and a section that a test below follows."""
    assert len(BLOCKS) > 10
    assert unfollowed(BLOCKS) == []
    assert {block.section for block in BLOCKS} == {*NEWCOMER, *SELFTEST, *PHASES}


@pytest.mark.parametrize(
    "addition",
    [
        "## Stopping\n```console\n$ true\n```",
        "## Phases\n```sh\ntrue\n```",
        "## Phases\n```\nx\n```",
        "## Phases\n~~~console x\n$ true\n~~~",
    ],
    ids=["section", "language", "no language", "tildes"],
)
def test_a_block_that_no_test_runs_is_noticed(addition: str) -> None:
    """A block in another section, of another language or of none is seen as not followed."""
    assert unfollowed(blocks_of(f"{TEXT}\n{addition}")) != []


def test_a_command_that_is_added_is_run(tmp_path: Path) -> None:
    """A further command in a console block fails the page when it fails, and when it says else."""
    with shell(tmp_path, tools(tmp_path)) as terminal:
        follow(
            terminal,
            blocks_of("```console\n$ export A=7\n$ echo $A s\n1.5 s\n$ false\n$ echo $?\n1\n```"),
        )
        for lines in WRONG:
            with pytest.raises(AssertionError, match="said"):
                follow(terminal, blocks_of(f"```console\n{lines}\n```"))


def test_numbers_and_times_of_the_page_are_free() -> None:
    """Output is compared by its shape: words must be the same, left-out lines may be anything."""
    page = [
        "Cycle 1 took 2.2 s: 2,900 records read.",
        "…",
        "Identical as of 2026-11-25 10:17:33 UTC …",
    ]
    said = ["Cycle 12 took 1 min 3 s: 7 records read.", "a", "b"]
    assert first_unsaid(page, [*said, "Identical as of 2027-01-01 00:00:00 UTC: 7."]) is None
    assert first_unsaid(page, said) == page[-1]
    assert first_unsaid(page[:1], said[:1]) is None
    assert first_unsaid(page[:1], ["Cycle 12 failed."]) == page[0]


def test_commands_in_the_text_exist() -> None:
    """What the sentences name as commands and make targets is there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command, word in re.findall(r"`(chromasync|make) ([a-z-]+)[^`]*`", TEXT):
        known = (
            program.commands
            if command == "chromasync"
            else re.findall(r"^[a-z-]+", makefile, re.MULTILINE)
        )
        assert word in known, (command, word)


def test_links_of_the_guide_lead_somewhere() -> None:
    """Linked pages and headings exist."""
    for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", TEXT):
        target = PAGE.parent / file if file else PAGE
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
        assert not anchor or anchor in anchors, (file, anchor)


def test_what_is_calculated_follows_from_what_was_measured() -> None:
    """The table by load is what the three rates give, and the rates are those of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for rate in ("1,315", "1.20 s", "0.080 s"):
        assert f" {rate} " in readme, rate
        assert f" {rate}" in TEXT, rate
    for count in RECORDS:
        reread = count * 1.20 / 20_000
        cycles = [max(1, -int(-reread // (BUDGET_SECONDS * n))) for n in (1, 3, 5)]
        cells = [duration(s) for s in (count / 1_315, count * 0.08 / 20_000, reread)]
        assert f"| {count:,} | {' | '.join(cells)} | {', '.join(map(str, cycles))} |" in TEXT


# ---- followed -------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a newcomer has: the files that an installation needs, and nothing else."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture
def two_servers(
    primary_server: ChromaServer, replica_server: ChromaServer
) -> Iterator[tuple[ChromaServer, ChromaServer]]:
    """A primary with two collections, and an empty replica."""
    client = client_of(primary_server.url, "default_database")
    for name, count in (("passages", 2_500), ("users", 400)):
        fill(client.create_collection(name, embedding_function=None), count)
    yield primary_server, replica_server
    close_client(client)


@pytest.mark.timeout(600)
@pytest.mark.longest
@pytest.mark.long
def test_a_newcomer_gets_to_a_verified_replica(
    checkout: Path, two_servers: tuple[ChromaServer, ChromaServer]
) -> None:
    """The first sections, typed in order in one folder, show what the page shows.

    Packages come from this environment instead of an index; chromasync itself is really installed.
    """
    primary, replica = two_servers
    text = TEXT.replace(PRIMARY, primary.url).replace(REPLICA, replica.url)
    packages = sysconfig.get_path("purelib")
    # pip takes 0 as the value of a switch that begins with "no"
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": packages}
    environment = tools(checkout, SYNC_LOG_FORMAT="console", **offline)
    with shell(checkout, environment) as terminal:
        follow(terminal, blocks_in(NEWCOMER, blocks_of(text)))
        found, _ = terminal.run(
            "command -v chromasync; python -c 'import chromasync as c; print(c.__file__)'"
        )
    assert all(line.startswith(str(checkout / ".venv")) for line in found), found
    assert_queries_answer_on_sqlite(checkout / "chromasync-data" / DATABASE_FILE)


def assert_queries_answer_on_sqlite(file: Path) -> None:
    """The page's queries run on the state file as they are; a chunk's time is in seconds there."""
    queries = [q for b in BLOCKS if b.language == "sql" for q in statements(b)]
    with closing(sqlite3.connect(file)) as database:
        answers = [database.execute(q).fetchall() for q in queries if q.startswith("SELECT")]
    shares, workers, chunks = answers
    assert sum(count for _, count in shares) == sum(count for _, count, _ in chunks) > 0
    assert workers == []  # it was stopped
    assert all(isinstance(seconds, float) and seconds > 0 for _, _, seconds in chunks)


@pytest.mark.longest
@pytest.mark.long
def test_the_self_test_says_what_the_guide_expects(tmp_path: Path) -> None:
    """With nothing configured, the script passes with the page's lines."""
    shutil.copy(ROOT / "test_distributed_sync.py", tmp_path)
    with shell(tmp_path, tools(tmp_path)) as terminal:
        follow(terminal, blocks_in(SELFTEST))


@pytest.mark.long
def test_where_nothing_ever_ran_no_criterion_is_met(tmp_path: Path) -> None:
    """Each of the commands that vouch for a deployment fails in a folder without any."""
    urls = {"PRIMARY_URL": "http://127.0.0.1:9", "REPLICA_URL": "http://127.0.0.1:8"}
    environment = tools(tmp_path, PYTHONPATH=str(ROOT / "src"), **urls)
    steps = [step for block in blocks_in(["Success criteria"]) for step in steps_of(block)]
    asked = [step for step in steps if "chromasync status" in step.command]
    assert len(asked) == 5
    with shell(tmp_path, environment) as terminal:
        for step in asked:
            said, _ = terminal.run(step.command)
            assert first_unsaid(step.output, said) is not None, step.command
    assert not (tmp_path / "chromasync-data").exists()


@pytest.fixture
def deployment(servers: Servers, tmp_path: Path) -> Iterator[Deployment]:
    """Two servers with a collection on the primary, a PostgreSQL, and no process yet."""
    stage = Stage(servers, tmp_path / "state")
    with LocalPostgres(durable=False) as postgres:
        url = postgres.database("sync")
        fleet = Fleet(stage, url, SYNC_INTERVAL="1", SYNC_CHUNK_SIZE="50", SYNC_ALERT_LAG="60")
        places = {
            PRIMARY: servers.primary_proxy.url,
            REPLICA: servers.replica_proxy.url,
            STORE: url,
        }
        try:
            stage.create(count=300)
            yield Deployment(fleet, places, tools(tmp_path))
        finally:
            fleet.close()
            stage.close()


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_phases_their_monitoring_and_the_way_back(deployment: Deployment) -> None:
    """Every environment is deployed, every query asked, every criterion met, in order."""
    for block in blocks_in(PHASES):
        deployment.do(block)
    assert deployment.roles == [Role.SINGLE, Role.COORDINATOR, Role.WORKER, Role.SINGLE]
    shares, workers, chunks = deployment.answers
    assert len({row["worker_id"] for row in shares}) >= 3
    assert len(workers) == 3
    assert {row["worker_id"] for row in workers} <= {row["worker_id"] for row in shares}
    assert all(row["memory_usage_mb"] > 10 for row in workers)
    assert [row["collection_name"] for row in chunks] == ["docs"]
    assert chunks[0]["avg_chunk_time"] > timedelta(0)
    assert_reader_only_reads(deployment.fleet.database_url)
