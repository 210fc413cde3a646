from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chromasync.config import Role
from chromasync.lab.chroma_server import ChromaServer, free_port
from tests.deploy.environments import settings_in

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
PASSWORD = "invented"
TOKEN = "invented-too-and-longer"
CHROMASYNC = ("coordinator", "worker", "dashboard")
ASKED = r"\$\{(POSTGRES_PASSWORD|SYNC_HTTP_TOKEN):\?[^}]+\}"


def interpolate(text: str) -> str:
    """Put both variables of the file in, as compose does, and undo the doubled dollars."""
    given = {"POSTGRES_PASSWORD": PASSWORD, "SYNC_HTTP_TOKEN": TOKEN}
    filled = re.sub(ASKED, lambda found: given[found[1]], text)
    return filled.replace("$$", "$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with anchors and variables resolved."""
    found: dict[str, Any] = yaml.safe_load(interpolate(FILE.read_text()))
    return found


def test_the_file_keeps_to_the_compose_specification() -> None:
    """The specification's own schema accepts it."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_password_is_asked_for_and_nowhere_written() -> None:
    """Without password and token compose refuses to start, with a sentence."""
    text = FILE.read_text()
    assert sorted(re.findall(ASKED, text)) == ["POSTGRES_PASSWORD"] * 2 + ["SYNC_HTTP_TOKEN"]
    assert "$" not in re.sub(rf"{ASKED}|\$\$", "", text)


@pytest.mark.parametrize("page", [FILE, ROOT / "docs" / "deploy.md"], ids=lambda path: path.name)
def test_the_password_outlives_the_first_command(page: Path) -> None:
    """Every compose command asks for it, so what people copy exports it before the first."""
    lines = [line.strip("# ") for line in page.read_text(encoding="utf-8").splitlines()]
    exported = next(n for n, line in enumerate(lines) if line.startswith("export POSTGRES_PASS"))
    assert "SYNC_HTTP_TOKEN=" in lines[exported]
    commands = [n for n, line in enumerate(lines) if line.startswith("docker compose")]
    assert commands
    assert exported < min(commands)
    assert not [line for line in lines if line.startswith("POSTGRES_PASSWORD=")]


def test_a_coordinator_and_two_workers_share_their_settings(compose: dict[str, Any]) -> None:
    """The program takes each environment as it is, and makes the right role of it."""
    coordinator = compose["services"]["coordinator"]
    worker = compose["services"]["worker"]
    assert settings_in(coordinator["environment"]).role is Role.COORDINATOR
    assert settings_in(worker["environment"]).role is Role.WORKER
    own = {"SYNC_COORDINATOR": "false"}
    assert coordinator["environment"] | own == worker["environment"]
    assert worker["deploy"]["replicas"] == 2


def test_the_page_is_for_this_machine_and_needs_its_token(compose: dict[str, Any]) -> None:
    """Its port is published on loopback, and the program takes its environment as it is."""
    page = compose["services"]["dashboard"]
    settings = settings_in(page["environment"])
    assert page["command"] == ["chromasync", "dashboard"]
    assert page["ports"] == [f"127.0.0.1:8080:{settings.sync_http_port}"]
    assert settings.sync_http_token is not None


def test_each_address_leads_to_a_service_and_its_port(compose: dict[str, Any]) -> None:
    """URLs name services of this file, and PostgreSQL's name, user and password fit."""
    settings = settings_in(compose["services"]["coordinator"]["environment"])
    assert (settings.primary_url, settings.replica_url) == (
        "http://primary:8000",
        "http://replica:8000",
    )
    given = compose["services"]["postgres"]["environment"]
    address = f"{given['POSTGRES_USER']}:{given['POSTGRES_PASSWORD']}@postgres:5432"
    assert settings.store.url == f"postgresql://{address}/{given['POSTGRES_DB']}"


def test_nothing_starts_before_what_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    """Servers and state store come first, then the coordinator, then the workers."""
    services = compose["services"]
    servers = {"primary", "replica", "postgres"}
    assert set(services["coordinator"]["depends_on"]) == servers
    assert set(services["worker"]["depends_on"]) == servers | {"coordinator"}
    assert set(services["dashboard"]["depends_on"]) == {"postgres", "coordinator"}
    for name in CHROMASYNC:
        conditions = services[name]["depends_on"].values()
        assert all(c == {"condition": "service_healthy"} for c in conditions)
    assert services["gate"]["depends_on"] == {"replica": {"condition": "service_healthy"}}
    for name in servers:
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_every_service_comes_back_and_is_given_time_to_end(compose: dict[str, Any]) -> None:
    """Restarts, thirty seconds of grace, volumes for what must stay, ports on loopback alone."""
    services = compose["services"]
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert service["stop_grace_period"] == "30s"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    kept = {v.partition(":")[0] for s in services.values() for v in s.get("volumes", ())}
    assert kept == set(compose["volumes"]) | {"./caddy/Caddyfile"}
    for name in CHROMASYNC:
        assert services[name]["build"] == {"context": "..", "dockerfile": "Dockerfile.sync"}
        assert services[name]["read_only"] is True


def test_the_health_check_of_the_servers_tells_a_server_from_none(
    compose: dict[str, Any], server: ChromaServer
) -> None:
    """The shell line says healthy of a real server, and unhealthy of a port without one."""
    _, *command = compose["services"]["primary"]["healthcheck"]["test"]
    assert probe(command, int(server.url.rpartition(":")[2])) == 0
    assert probe(command, free_port()) != 0


def probe(command: list[str], port: int) -> int:
    """The exit code of a health check against another port."""
    *shell, line = command
    assert line.count("/8000 ") == 1
    there = line.replace("/8000 ", f"/{port} ")
    return subprocess.run([*shell, there], capture_output=True, check=False, timeout=30).returncode
