"""Proxies in the environment of a command: they are used, or named in the one error there is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chromasync.lab.chroma_server import free_port
from tests.support.gateway import Gateway
from tests.support.stage import Stage

FAR = "http://primary.internal:8000"


@pytest.fixture
def gateway(stage: Stage) -> Iterator[Gateway]:
    """A proxy with a password, behind which the primary stands."""
    upstream = stage.servers.primary_proxy.url
    with Gateway(upstream, user="someone", password="s3cret") as gateway:
        yield gateway


@pytest.mark.long
@pytest.mark.parametrize(("variable", "scheme"), [("HTTP_PROXY", "http"), ("ALL_PROXY", "socks5h")])
def test_a_primary_behind_a_proxy_is_mirrored(
    stage: Stage, gateway: Gateway, variable: str, scheme: str
) -> None:
    """A cycle and the doctor go through it; its password is in no output."""
    proxy = {variable: gateway.url(scheme, user="someone", password="s3cret")}
    ended = stage.command("sync", "--debug", PRIMARY_URL=FAR, **proxy)
    assert ended.returncode == 0, ended.stderr
    stage.assert_identical()
    assert {host for _, host in gateway.passed} == {"primary.internal"}
    doctor = stage.command("doctor", PRIMARY_URL=FAR, **proxy)
    assert f"through the proxy {gateway.url(scheme)} (from {variable})" in doctor.stdout
    assert "s3cret" not in ended.stdout + ended.stderr + doctor.stdout + doctor.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("http://someone:s3cret@127.0.0.1:{port}", 3),
        ("socks5://someone:s3cret@127.0.0.1:{port}", 3),
        ("quic://someone:s3cret@127.0.0.1:{port}", 2),
        ("not a url", 2),
    ],
)
def test_a_proxy_that_is_dead_or_wrong_is_named_by_sync_and_doctor(
    stage: Stage, value: str, code: int
) -> None:
    """Exit code 3 or 2, with the variable; never a defect of ours, never the password."""
    stage.overrides = {"PRIMARY_URL": FAR, "ALL_PROXY": value.format(port=free_port())}
    ended = stage.command("sync")
    assert ended.returncode == code, ended.stderr
    assert "ALL_PROXY" in ended.stderr
    assert "defect" not in ended.stderr
    doctor = stage.command("doctor", "--json")
    assert doctor.returncode == code
    (wrong,) = [check for check in json.loads(doctor.stdout)["checks"] if check["exit_code"]]
    assert wrong["name"] == "primary"
    assert "ALL_PROXY" in wrong["detail"]
    assert "s3cret" not in ended.stderr + doctor.stdout + doctor.stderr
