"""Reads a Render Blueprint, makes the edits of the deployment guide in it, and fills it in.

The edits are the guide's own text. A value is changed where it stands, and a service is added with
what the guide leaves to "same other config as coordinator".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "render.yaml"
COORDINATOR = "chroma-sync-coordinator"

PHASE_1 = """
- key: SYNC_DISTRIBUTED
  value: "true"        # ← Change from "false"
- key: SYNC_COORDINATOR
  value: "true"        # ← Change from "false"
- key: SYNC_CHUNK_SIZE
  value: "1000"        # ← Keep as-is
"""
PHASE_2 = """
  # NEW: Add dedicated workers
  - type: worker
    name: chroma-sync-worker
    env: docker
    dockerfilePath: ./Dockerfile.sync
    region: oregon
    plan: starter  # or standard when needed
    instances: 2   # Start with 2 workers, scale to 5 later
    envVars:
      - key: SYNC_DISTRIBUTED
        value: "true"
      - key: SYNC_COORDINATOR
        value: "false"    # Workers, not coordinator
      # ... (same other config as coordinator)
"""
ROLLBACK = """
- key: SYNC_DISTRIBUTED
  value: "false"     # ← Back to single worker
- key: SYNC_COORDINATOR
  value: "false"     # ← Back to traditional sync
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What stands for the parts of the platform that a Blueprint refers to."""

    services: Mapping[str, str]
    """`host:port` of each private service."""
    databases: Mapping[str, str]
    """Connection string of each database."""


class Blueprint:
    """One state of the file."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.content: dict[str, Any] = yaml.safe_load(text)

    @classmethod
    def shipped(cls) -> Blueprint:
        """The file as it is in the repository: phase 0."""
        return cls(FILE.read_text(encoding="utf-8"))

    def with_values(self, edit: str) -> Blueprint:
        """The guide's edit of values, made in the text of the coordinator's service."""
        before, name, after = self.text.partition(f"name: {COORDINATOR}\n")
        for variable in yaml.safe_load(edit):
            line = re.compile(
                rf'^( +- key: {variable["key"]}\n +value: )(["\']).*\2$', re.MULTILINE
            )
            after, changed = line.subn(rf"\g<1>\g<2>{variable['value']}\g<2>", after, count=1)
            assert changed == 1, variable
        return Blueprint(before + name + after)

    def with_service(self, edit: str) -> Blueprint:
        """The guide's new service, added behind the coordinator."""
        (given,) = yaml.safe_load(edit)
        coordinator = self.service(COORDINATOR)
        variables = {v["key"]: v for v in (*coordinator["envVars"], *given["envVars"])}
        rest = {k: v for k, v in coordinator.items() if k not in ("runtime", *given)}
        service = rest | given | {"envVars": list(variables.values())}
        content = self.content | {"services": [*self.content["services"], service]}
        return Blueprint(yaml.safe_dump(content, sort_keys=False))

    def uncommented(self, name: str = "chroma-sync-worker") -> Blueprint:
        """The file with the comment marks of this service's block taken away."""
        blocks = re.findall(r"(?:^  # (?:- | {2}).*\n)+", self.text, flags=re.MULTILINE)
        (block,) = (block for block in blocks if f"name: {name}\n" in block)
        bare = re.sub(r"^  # ", "  ", block, flags=re.MULTILINE)
        return Blueprint(self.text.replace(block, bare))

    # ---- what it says -----------------------------------------------------------------------

    @property
    def programs(self) -> list[dict[str, Any]]:
        """The services that run chromasync."""
        return [s for s in self.content["services"] if s["type"] == "worker"]

    def service(self, name: str) -> dict[str, Any]:
        """One service by its name."""
        (found,) = (s for s in self.content["services"] if s["name"] == name)
        return dict(found)

    def environment(self, name: str, addresses: Addresses) -> dict[str, str]:
        """The environment of a service's processes, as the platform would fill it in."""
        filled = {}
        for variable in self.service(name)["envVars"]:
            if variable.get("sync") is False:
                continue  # asked for in the dashboard, and left empty here
            filled[variable["key"]] = _value(variable, addresses)
        return filled


def instances(service: Mapping[str, Any]) -> int:
    """How many processes a service has; the guide's word for it is not the platform's."""
    count: int = service.get("numInstances", service.get("instances", 1))
    return count


def _value(variable: Mapping[str, Any], addresses: Addresses) -> str:
    match variable:
        case {"value": str(value)}:
            return value
        case {"generateValue": True}:
            return "made-up-by-the-platform"
        case {"fromService": {"type": "pserv", "name": name, "property": "hostport"}}:
            return addresses.services[name]
        case {"fromDatabase": {"name": name, "property": "connectionString"}}:
            return addresses.databases[name]
    raise AssertionError(f"nothing is known of {variable}")
