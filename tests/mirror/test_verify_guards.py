"""A comparison that would prove nothing is refused, however it is asked for."""

from __future__ import annotations

import json

import pytest

from tests.support.stage import Stage


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--sample", "50"), ("--repair",)])
def test_a_server_is_not_compared_with_itself(stage: Stage, options: tuple[str, ...]) -> None:
    """Both URLs lead to one server: it would be identical to itself, so verify says why not."""
    stage.create(count=3)
    ended = stage.command("verify", "--json", *options, REPLICA_URL=stage.servers.primary.url)
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["exit_code"]) == (4, 4)
    assert document["error"]["kind"] == "GuardRefusal"
    assert "they lead to one server" in ended.stderr
    assert "Nothing was written to either side." in ended.stderr
