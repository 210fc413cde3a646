"""Alert rules and dashboard against Prometheus itself: its checks, and a real scrape."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from chromasync.web.metrics import METRICS
from tests.distributed.fleet import Fleet
from tests.support.programs import PROGRAMS
from tests.support.stage import Servers, Stage
from tests.web.ports import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
BOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
TOKEN = "scraped-with-this-token"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PATIENCE = 180.0
SUFFIXES = ("_bucket", "_count", "_sum")


def promtool(*arguments: str, folder: Path = RULES) -> str:
    """What promtool says, if it is content."""
    done = subprocess.run(
        [PROGRAMS["promtool"].find(), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    (group,) = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> list[str]:
    """The queries of the dashboard, with its variables filled in."""
    texts = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
    return [t.replace("$job", "chromasync").replace("$__rate_interval", "1m") for t in texts]


@pytest.mark.needs("promtool")
def test_the_rules_are_valid_and_do_what_they_say() -> None:
    """Promtool accepts rules and example, and its unit tests of the rules pass."""
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts.test.yml")


@pytest.mark.needs("promtool")
def test_the_example_of_a_configuration_is_valid(tmp_path: Path) -> None:
    """With its token file beside it, Prometheus takes it."""
    for name in ("alerts.yml", "prometheus.yml"):
        (tmp_path / name).write_text((RULES / name).read_text())
    (tmp_path / "chromasync-token").write_text("secret")
    promtool("check", "config", "prometheus.yml", folder=tmp_path)


def test_rules_and_dashboard_ask_for_published_metrics_only() -> None:
    """No name in them is one that no process shows."""
    known = {metric.name for metric in METRICS}
    texts = [rule["expr"] for rule in rules()] + queries()
    asked = set(re.findall(r"\bchromasync_[a-z_]+", " ".join(texts)))
    assert len(asked) > 15
    unknown = {n for n in asked if n not in known and not n.endswith(SUFFIXES)}
    assert unknown == set()


def test_every_alert_is_explained() -> None:
    """Each rule has a row in the documentation, with what to do about it."""
    for rule in rules():
        assert f"| `{rule['alert']}` |" in OPERATIONS
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(re.findall(r"^\| `Chromasync\w+` \|", OPERATIONS, re.MULTILINE)) == len(rules())


# ---- a real Prometheus -----------------------------------------------------------------------


class Prometheus:
    """A running server, asked over HTTP."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=60, verify=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The present values of an expression; raises if Prometheus does not take it."""
        answer = self._http.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, (expression, answer.text)
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def _is_ready(self) -> bool:
        """It answers 503 until it has read its own files."""
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {r["metric"]["alertname"] for r in self.query('ALERTS{alertstate="firing"}')}

    def until(self, what: str, *, within: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until an expression has a value."""
        deadline = time.monotonic() + within
        while True:
            if self._is_ready() and (found := self.query(what)):
                return found
            assert time.monotonic() < deadline, f"in vain: {what}"
            time.sleep(0.1)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


@contextmanager
def running_prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """Prometheus with our rules, ten times as impatient, scraping these targets each second."""
    folder.mkdir()
    text = (RULES / "alerts.yml").read_text()
    (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", text))
    scrape = {
        "job_name": "chromasync",
        "authorization": {"credentials": TOKEN},
        "static_configs": [{"targets": targets}],
    }
    quick = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": quick, "rule_files": ["alerts.yml"], "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = subprocess.Popen(
        [
            PROGRAMS["prometheus"].find(),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        cwd=folder,
    )
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    try:
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        process.wait(60)


@pytest.fixture
def fleet(servers: Servers, tmp_path: Path) -> Iterator[Fleet]:
    """Processes over a SQLite file, with a collection to mirror."""
    stage = Stage(servers, tmp_path / "state")
    # a slow machine is not behind, but a frozen service soon is
    fleet = Fleet(stage, f"sqlite:///{tmp_path}/state.db", SYNC_ALERT_LAG="8")
    stage.create("docs", count=200)
    yield fleet
    fleet.close()
    stage.close()


@pytest.mark.long
@pytest.mark.needs("prometheus")
def test_a_frozen_service_fires_and_the_dashboard_has_data(fleet: Fleet, tmp_path: Path) -> None:
    """Prometheus scrapes a real service and a dashboard; a freeze is told, and its end is, too."""
    ports = [free_port(), free_port()]
    secret = {"SYNC_HTTP_TOKEN": TOKEN}
    service = fleet.single("service", SYNC_HTTP_PORT=str(ports[0]), **secret)
    fleet.until_identical()
    fleet.dashboard(SYNC_HTTP_PORT=str(ports[1]), **secret)
    targets = [f"127.0.0.1:{port}" for port in ports]
    with running_prometheus(tmp_path / "prometheus", targets) as prometheus:
        prometheus.until("sum(up) == 2 and sum(chromasync_identical) == 2")
        prometheus.until("rate(chromasync_http_requests_total[1m]) > 0")
        assert_queries_have_data(prometheus)
        prometheus.until("(count(ALERTS) or vector(0)) == 0")
        service.send(signal.SIGSTOP)
        prometheus.until('ALERTS{alertname="ChromasyncNotAnswering", alertstate="firing"}')
        prometheus.until('ALERTS{alertname="ChromasyncLag", alertstate="firing"}')
        lag = prometheus.query("max(chromasync_lag_seconds)")[0]["value"][1]
        prometheus.until(f"max(chromasync_lag_seconds) > {lag} + 1")
        assert "ChromasyncStoreDown" not in prometheus.firing()
        service.send(signal.SIGCONT)
        prometheus.until("sum(up) == 2 and sum(chromasync_identical) == 2")
        prometheus.until('(count(ALERTS{alertstate="firing"}) or vector(0)) == 0')


def assert_queries_have_data(prometheus: Prometheus) -> None:
    """Each query of the dashboard is valid, and all but those about a limit have a value."""
    for query in queries():
        found = prometheus.query(query)
        assert found or "memory_limit" in query, query
