"""The Blueprint against what Render documents of the format.

Render's own schema is not to be had from a package registry, so these are strict checks of our
own: every key must be one that the reference lists for its kind of service.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chromasync.config import Role
from tests.deploy.blueprint import (
    COORDINATOR,
    PHASE_1,
    PHASE_2,
    ROLLBACK,
    Addresses,
    Blueprint,
    instances,
)
from tests.deploy.environments import settings_in

ROOT = Path(__file__).parents[2]
ANY_SERVICE = {"type", "name", "runtime", "region", "plan", "envVars", "maxShutdownDelaySeconds"}
KEYS = {
    ("pserv", "image"): ANY_SERVICE | {"image", "disk"},
    ("worker", "docker"): ANY_SERVICE | {"dockerfilePath", "numInstances"},
    ("web", "docker"): ANY_SERVICE | {"dockerfilePath", "dockerCommand", "healthCheckPath"},
}
DATABASE_KEYS = {"name", "region", "plan", "ipAllowList"}
PLANS = {"starter", "standard", "pro", "pro plus"}  # `free` has no workers and no private services
DATABASE_PLANS = {"basic-256mb", "basic-1gb", "basic-4gb"}
REGIONS = {"oregon", "ohio", "virginia", "frankfurt", "singapore"}
SOURCES = {"value", "fromService", "fromDatabase", "sync", "generateValue"}
PAGE = "chroma-sync-dashboard"
ADDRESSES = Addresses(
    services={"chroma-primary": "primary-x1:8000", "chroma-replica": "replica-y2:8000"},
    databases={"chroma-sync-state": "postgresql://user:password@host/name"},
)
FILES = {
    "phase 0": Blueprint.shipped(),
    "phase 1": Blueprint.shipped().with_values(PHASE_1),
    "phase 2": Blueprint.shipped().with_values(PHASE_1).uncommented(),
    "the page": Blueprint.shipped().uncommented(PAGE),
}


@pytest.mark.parametrize("phase", FILES)
def test_every_key_and_value_is_one_that_the_platform_knows(phase: str) -> None:
    """Services, databases and variables in the platform's vocabulary, in every phase."""
    content = FILES[phase].content
    assert set(content) == {"services", "databases"}
    for service in content["services"]:
        assert set(service) <= KEYS[service["type"], service["runtime"]], service["name"]
        assert service["plan"] in PLANS
        assert service["region"] in REGIONS
        check_variables(service["envVars"], FILES[phase])
    for database in content["databases"]:
        assert set(database) == DATABASE_KEYS
        assert database["plan"] in DATABASE_PLANS
    names = [part["name"] for kind in content.values() for part in kind]
    assert len(names) == len(set(names))


def check_variables(variables: list[Mapping[str, Any]], blueprint: Blueprint) -> None:
    """Each variable has one source, text for a value, and a source that is in the file."""
    keys = [variable["key"] for variable in variables]
    assert len(keys) == len(set(keys))
    for variable in variables:
        (source,) = set(variable) - {"key"}
        assert source in SOURCES
        assert isinstance(variable.get("value", ""), str), "a bare true would be another type"
        if source == "fromService":
            named = variable[source]
            assert blueprint.service(named["name"])["type"] == named["type"]
        if source == "fromDatabase":
            databases = {d["name"] for d in blueprint.content["databases"]}
            assert variable[source]["name"] in databases


def test_as_shipped_it_is_phase_0_of_the_guide() -> None:
    """Single mode, the guide's chunk size, one instance, and the names the guide uses."""
    shipped = Blueprint.shipped()
    (coordinator,) = shipped.programs
    assert coordinator["name"] == COORDINATOR
    assert instances(coordinator) == 1
    environment = shipped.environment(COORDINATOR, ADDRESSES)
    wanted = {"SYNC_DISTRIBUTED": "false", "SYNC_COORDINATOR": "false", "SYNC_CHUNK_SIZE": "1000"}
    assert environment | wanted == environment
    assert settings_in(environment).role is Role.SINGLE


def test_each_phase_is_the_guides_edit_and_nothing_else() -> None:
    """Two values give the coordinator, one service the workers, two values the way back."""
    phase_1 = Blueprint.shipped().with_values(PHASE_1)
    changed = [
        (old, new)
        for old, new in zip(
            Blueprint.shipped().text.splitlines(), phase_1.text.splitlines(), strict=True
        )
        if old != new
    ]
    assert len(changed) == 2
    assert role_of(phase_1, COORDINATOR) is Role.COORDINATOR
    phase_2 = phase_1.with_service(PHASE_2)
    assert role_of(phase_2, COORDINATOR) is Role.COORDINATOR
    assert role_of(phase_2, "chroma-sync-worker") is Role.WORKER
    assert phase_1.with_values(ROLLBACK).text == Blueprint.shipped().text


def role_of(blueprint: Blueprint, name: str) -> Role:
    """What the program makes of a service's environment."""
    return settings_in(blueprint.environment(name, ADDRESSES)).role


def test_the_block_in_the_file_is_the_guides_new_service() -> None:
    """Without its comment marks it is what the guide adds, in the platform's present words."""
    ours = FILES["phase 2"].service("chroma-sync-worker")
    guide = FILES["phase 1"].with_service(PHASE_2).service("chroma-sync-worker")
    assert ours.pop("runtime") == guide.pop("env")
    assert ours.pop("numInstances") == guide.pop("instances")
    assert ours == guide
    assert (ROOT / ours["dockerfilePath"]).is_file()


def test_workers_differ_from_the_coordinator_in_their_role_alone() -> None:
    """They meet on the same servers and the same state store."""
    phase_2 = FILES["phase 2"]
    worker = phase_2.environment("chroma-sync-worker", ADDRESSES)
    assert worker == phase_2.environment(COORDINATOR, ADDRESSES) | {"SYNC_COORDINATOR": "false"}


def test_an_address_without_a_scheme_is_what_the_platform_gives() -> None:
    """A private service's `hostport` is plain http; a connection string is taken as it is."""
    settings = settings_in(Blueprint.shipped().environment(COORDINATOR, ADDRESSES))
    assert settings.primary_url == "http://primary-x1:8000"
    assert settings.replica_url == "http://replica-y2:8000"
    assert settings.store.url == ADDRESSES.databases["chroma-sync-state"]


def test_both_servers_keep_their_data_on_a_disk() -> None:
    """Where the server's image keeps its data, and the port it listens on is told."""
    shipped = Blueprint.shipped()
    for name in ADDRESSES.services:
        service = shipped.service(name)
        assert service["disk"]["mountPath"] == "/data"
        assert {"key": "PORT", "value": "8000"} in service["envVars"]


def test_the_address_of_alerts_is_asked_for_and_may_stay_empty() -> None:
    """Who fills a Blueprint in learns what it is for, and what happens without it."""
    lines = Blueprint.shipped().text.splitlines()
    asked = lines.index("      - key: SYNC_WEBHOOK_URL")
    assert "empty means that nobody is told" in lines[asked - 1]
    left_empty = Blueprint.shipped().environment(COORDINATOR, ADDRESSES) | {"SYNC_WEBHOOK_URL": ""}
    assert settings_in(left_empty).sync_webhook_url is None


def test_no_secret_is_in_the_file_and_the_database_is_private() -> None:
    """What may be secret is asked for in the dashboard; nobody outside reaches the database."""
    content = FILES["phase 2"].content
    variables = [v for s in content["services"] for v in s["envVars"]]
    secret = ("TOKEN", "HEADERS", "WEBHOOK", "PASSWORD", "DATABASE_URL")
    given = [v["key"] for v in variables if "value" in v]
    assert not [key for key in given if key.endswith(secret) or any(s in key for s in secret)]
    assert all(database["ipAllowList"] == [] for database in content["databases"])


def test_the_page_is_not_open_to_the_world() -> None:
    """It is off as shipped; on the internet it has a token that nobody knows but its owner."""
    assert PAGE not in [service["name"] for service in Blueprint.shipped().content["services"]]
    page = FILES["the page"].service(PAGE)
    assert page["dockerCommand"] == "chromasync dashboard"
    assert page["healthCheckPath"] == "/readyz"
    settings = settings_in(
        FILES["the page"].environment(PAGE, ADDRESSES) | {"PORT": "10000"}, servers=False
    )
    assert (settings.sync_http_host, settings.sync_http_port) == ("0.0.0.0", 10000)
    assert settings.sync_http_token is not None
    assert settings.store.url == ADDRESSES.databases["chroma-sync-state"]
