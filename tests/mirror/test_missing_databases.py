"""A database or tenant that the settings name is deleted on a real primary."""

from __future__ import annotations

import json
from dataclasses import dataclass

import httpx2
import pytest

from chromasync.model import MirrorStatus
from tests.support.stage import TENANT, Servers, Stage, add_plain, client_of, close_client, fill

COUNT = 6


@dataclass
class Twin:
    """Another database of the stage's servers, with one collection that is named as well."""

    servers: Servers
    database: str
    tenant: str

    def __post_init__(self) -> None:
        for server in (self.servers.primary, self.servers.replica):
            close_client(client_of(server.url, self.database, self.tenant))
        client = client_of(self.servers.primary.url, self.database, self.tenant)
        add_plain(client.create_collection("people", embedding_function=None), COUNT)
        close_client(client)

    def delete_on_primary(self) -> None:
        """Delete the database with all that is in it."""
        path = f"/api/v2/tenants/{self.tenant}/databases/{self.database}"
        httpx2.delete(f"{self.servers.primary.url}{path}").raise_for_status()

    def count_on_replica(self) -> int:
        """Records of its collection there."""
        client = client_of(self.servers.replica.url, self.database, self.tenant)
        try:
            return client.get_collection("people", embedding_function=None).count()
        finally:
            close_client(client)


@pytest.fixture(params=["database", "tenant"])
def twin(request: pytest.FixtureRequest, stage: Stage) -> Twin:
    """A second database that is named, beside the stage's, in its tenant or in one of its own."""
    docs = stage.create(count=COUNT)
    if request.param == "database":
        twin = Twin(stage.servers, f"{stage.database}-hr", TENANT)
        stage.overrides["SYNC_DATABASES"] = f"{stage.database},{twin.database}"
    else:
        twin = Twin(stage.servers, stage.database, f"tenant-{stage.database}")
        stage.overrides["SYNC_TENANTS"] = f"{TENANT},{twin.tenant}"
    assert stage.sync().exit_code == 0
    assert twin.count_on_replica() == COUNT
    fill(docs, 4, start=50)
    twin.delete_on_primary()
    return twin


@pytest.mark.long
def test_a_missing_database_fails_alone(stage: Stage, twin: Twin) -> None:
    """The others go on; the command ends with 4 and names it; nothing of it is touched."""
    for _ in range(3):
        ended = stage.command("sync")
        assert ended.returncode == 4, ended.stdout + ended.stderr
        assert f"in tenant {twin.tenant!r}" in ended.stdout.splitlines()[-1]
        assert "Restore it, or remove it from SYNC_" in ended.stdout
        assert "Held" not in ended.stdout
    stage.assert_identical()
    assert twin.count_on_replica() == COUNT
    states = {c.name: c.status for c in stage.status().collections}
    assert states == {"docs": MirrorStatus.IDENTICAL, "people": MirrorStatus.ERROR}
    assert stage.command("status", "-q").returncode == 4


@pytest.mark.long
def test_plan_verify_and_doctor_say_the_same(stage: Stage, twin: Twin) -> None:
    """Each looks at the others, names what is missing, and ends with 4."""
    for command, words in (
        ("plan", "Not planned: The primary has no database"),
        ("verify", "Not compared: The primary has no database"),
        ("doctor", "WRONG collections: The primary has no database"),
    ):
        ended = stage.command(command)
        assert ended.returncode == 4, ended.stdout + ended.stderr
        assert words in ended.stdout
        assert f"in tenant {twin.tenant!r}" in ended.stdout
    document = json.loads(stage.command("plan", "--json").stdout)
    assert [(c["name"], c["create"]) for c in document["collections"]] == [("docs", 4)]
    assert len(document["failures"]) == 1
    document = json.loads(stage.command("verify", "--json", "--repair").stdout)
    assert [(c["name"], c["same"]) for c in document["collections"]] == [("docs", COUNT + 4)]
    assert (document["exit_code"], len(document["failures"])) == (4, 1)
    assert stage.command("verify").stdout.splitlines()[-1].startswith("Same, except the parts")
    assert twin.count_on_replica() == COUNT


@pytest.mark.long
def test_taking_it_out_of_the_settings_ends_the_trouble(stage: Stage, twin: Twin) -> None:
    """As the sentence says; the replica keeps what it has of it."""
    assert stage.sync().exit_code == 4
    alone = {"SYNC_DATABASES": stage.database, "SYNC_TENANTS": TENANT}
    assert stage.sync(**alone).exit_code == 0
    assert twin.count_on_replica() == COUNT
