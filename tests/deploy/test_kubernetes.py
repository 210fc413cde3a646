from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chromasync.config import Role
from chromasync.errors import SettingsError
from tests.deploy.environments import settings_in
from tests.deploy.image import UNPRIVILEGED

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
ROLES = {"coordinator": Role.COORDINATOR, "worker": Role.WORKER}
PODS = (*ROLES, "dashboard")
SECRET = {
    "DATABASE_URL": "postgresql://user:password@host/name",
    "SYNC_HTTP_TOKEN": "a-token-of-the-cluster",
}


def manifests(kind: str) -> dict[str, dict[str, Any]]:
    """The manifests of one kind, by name."""
    found = [
        manifest
        for path in sorted(FOLDER.glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] == kind
    ]
    return {manifest["metadata"]["name"]: manifest for manifest in found}


def pod_of(role: str) -> dict[str, Any]:
    """The pod's specification of one Deployment."""
    found: dict[str, Any] = manifests("Deployment")[f"chromasync-{role}"]["spec"]["template"][
        "spec"
    ]
    return found


def environment_of(role: str) -> dict[str, str]:
    """What a container of this role finds in its environment."""
    (container,) = pod_of(role)["containers"]
    (settings, secret) = container["envFrom"]
    shared: dict[str, str] = manifests("ConfigMap")[settings["configMapRef"]["name"]]["data"]
    assert secret == {"secretRef": {"name": "chromasync"}}
    own = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return shared | SECRET | own


def test_every_manifest_keeps_to_the_schemas_of_kubernetes() -> None:
    """The strict schemas, which refuse unknown fields, accept every file."""
    checker = Path(sys.executable).with_name("kubernetes-validate")
    files = sorted(FOLDER.glob("*.yaml"))
    done = subprocess.run(
        [checker, "--strict", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(files) == 4


@pytest.mark.parametrize("role", ROLES)
def test_the_environment_of_each_deployment_gives_its_role(role: str) -> None:
    """The program takes each environment as it is; the state store's address is a secret."""
    environment = environment_of(role)
    assert settings_in(environment).role is ROLES[role]
    shared = manifests("ConfigMap")["chromasync"]["data"]
    assert not {name for name in shared if "TOKEN" in name or name == "DATABASE_URL"}


@pytest.mark.parametrize("role", ROLES)
def test_service_links_are_off_because_the_program_would_refuse_them(role: str) -> None:
    """A service named `sync` cannot keep us from starting, and one named `primary` never could."""
    with pytest.raises(SettingsError, match="SYNC_SERVICE_HOST"):
        settings_in(environment_of(role) | {"SYNC_SERVICE_HOST": "10.0.0.1"})
    links = {"PRIMARY_SERVICE_HOST": "10.0.0.1", "PRIMARY_PORT": "tcp://10.0.0.1:8000"}
    assert settings_in(environment_of(role) | links).role is ROLES[role]
    assert pod_of(role)["enableServiceLinks"] is False


@pytest.mark.parametrize("role", PODS)
def test_probes_ask_the_page(role: str) -> None:
    """Started and ready mean /readyz; a restart follows /healthz alone, never a lost store."""
    (container,) = pod_of(role)["containers"]
    settings = settings_in(environment_of(role))
    assert container["ports"] == [{"name": "http", "containerPort": settings.sync_http_port}]
    assert settings.sync_http_host == "0.0.0.0"
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    (token,) = (each for each in container["env"] if each["name"] == "SYNC_HTTP_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": "chromasync", "key": "SYNC_HTTP_TOKEN"}


def test_nothing_outside_of_the_cluster_reaches_the_page() -> None:
    """One service leads to the dashboard's pods, and it is the cluster's own."""
    (service,) = manifests("Service").values()
    assert service["spec"]["type"] == "ClusterIP"
    deployment = manifests("Deployment")["chromasync-dashboard"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    (container,) = pod_of("dashboard")["containers"]
    assert container["command"] == ["chromasync", "dashboard"]


@pytest.mark.parametrize("role", PODS)
def test_pods_are_small_unprivileged_and_end_in_order(role: str) -> None:
    """At most 512 MiB, thirty seconds of grace, no root, nothing to write but two empty folders."""
    pod = pod_of(role)
    (container,) = pod["containers"]
    memory = {"dashboard": "256Mi"}.get(role, "512Mi")
    assert container["resources"]["limits"]["memory"] == memory
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == UNPRIVILEGED
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"data": "/data", "tmp": "/tmp"}
    assert pod["volumes"] == [{"name": name, "emptyDir": {}} for name in mounts]


@pytest.mark.parametrize("role", ROLES)
def test_labels_lead_from_each_selector_to_its_pods(role: str) -> None:
    """Deployment and disruption budget choose the pods of their own role."""
    deployment = manifests("Deployment")[f"chromasync-{role}"]
    budget = manifests("PodDisruptionBudget")[f"chromasync-{role}"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == role
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["maxUnavailable"] == 1


def test_one_coordinator_at_a_time_and_two_workers() -> None:
    """The old coordinator lets go of the lead before its successor starts."""
    deployments = manifests("Deployment")
    coordinator = deployments["chromasync-coordinator"]["spec"]
    assert coordinator["replicas"] == 1
    assert coordinator["strategy"] == {"type": "Recreate"}
    assert deployments["chromasync-worker"]["spec"]["replicas"] == 2
