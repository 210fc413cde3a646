"""The commands of docs/cloud.md, each run in order against the stand-in for Chroma Cloud."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from chromasync.chroma.limits import QUOTA_RECORDS
from chromasync.config import load_settings
from chromasync.lab.chroma_server import ChromaServer
from tests.docs.pages import Step, blocks_of, first_unsaid, steps_of
from tests.support.cloud import TOKEN, CloudStandIn, Quotas
from tests.support.stage import ROOT, client_of, close_client, fill, invoke_command, vectors

TEXT = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
CLOUD, KEY = "https://api.trychroma.com", "ck-…"
FROM, TO = "From Chroma Cloud", "To Chroma Cloud"
ASK_CODE = "; echo $?"


def follow(section: str, places: Mapping[str, str], folder: Path) -> None:
    """Type the commands of a section; each must say what the page shows, and end as it says."""
    text = TEXT
    for written, real in places.items():
        text = text.replace(written, real)
    settings = {"SYNC_DATA_DIR": str(folder), "SYNC_LOG_LEVEL": "error"}
    for block in blocks_of(text):
        for step in steps_of(block) if block.section == section else ():
            if step.command.startswith("export "):
                settings |= dict(re.findall(r"([A-Z_]+)=(\S+)", step.command))
            else:
                type_in(step, settings)


def type_in(step: Step, settings: Mapping[str, str]) -> None:
    command = step.command.removesuffix(ASK_CODE)
    done = invoke_command(*command.split()[1:], **settings)
    said = done.stdout.splitlines()
    if command != step.command:
        said.append(str(done.returncode))
    else:
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    missing = first_unsaid(step.output, said)
    assert missing is None, f"not said by {command}: {missing}\n" + "\n".join(said)


def test_every_block_is_followed() -> None:
    """The page has commands in two sections alone, and settings that the program knows."""
    blocks = list(blocks_of(TEXT))
    assert [(b.section, b.language) for b in blocks[:2]] == [(FROM, "console"), (TO, "console")]
    (values,) = blocks[2:]
    given = dict(line.split("=") for line in values.text.splitlines())
    urls = {"PRIMARY_URL": "http://one", "REPLICA_URL": "http://two"}
    assert load_settings(flags=urls | given).sync_interval == 3600


def test_the_published_quotas_are_those_of_the_stand_in() -> None:
    """Each number in the table is one that the tests enforce."""
    quotas = Quotas()
    assert quotas.records == quotas.results == QUOTA_RECORDS
    for number in (quotas.dimension, quotas.document, quotas.value):
        assert f" {number:,} " in TEXT or f" {number:,}\n" in TEXT
    assert f"{quotas.id}, {quotas.uri} bytes" in TEXT
    assert f"{quotas.keys} keys of {quotas.key} bytes" in TEXT
    assert f"{quotas.keys} keys, values of {quotas.collection_value} bytes" in TEXT
    assert f"| {quotas.name} bytes |" in TEXT
    assert f"| {quotas.concurrent} each |" in TEXT


@pytest.mark.long
def test_from_and_to_the_cloud_as_written(
    primary_server: ChromaServer, replica_server: ChromaServer, tmp_path: Path
) -> None:
    """A database of the Cloud's tenant goes to the other server, and one of ours to the Cloud."""
    with CloudStandIn(primary_server.url) as cloud:
        client = client_of(primary_server.url, "main", cloud.tenant)
        fill(client.create_collection("passages", embedding_function=None), 400)
        close_client(client)
        own = {CLOUD: cloud.url, KEY: TOKEN, "http://replica:8000": replica_server.url}
        follow(FROM, own, tmp_path / "from")
        assert cloud.writes() == []
    client = client_of(primary_server.url, "default_database")
    passages = client.create_collection("passages", embedding_function=None)
    fill(passages, 400)
    passages.add(ids=["manual"], embeddings=vectors(1), documents=["long " * 4000])
    close_client(client)
    with CloudStandIn(replica_server.url, databases=[]) as cloud:
        other = {CLOUD: cloud.url, KEY: TOKEN, "http://primary:8000": primary_server.url}
        follow(TO, other, tmp_path / "to")
