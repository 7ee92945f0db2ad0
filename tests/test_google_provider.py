"""`ray up` with Ray's real Google provider: every request it makes is one that Google's interfaces know."""

import copy
from pathlib import Path
from typing import Any

import httplib2
import pytest
import yaml

from tests import ROOT
from tests.cloud.google_discovery import Call, Google, call_of

RIGHTS = {
    "cloudresourcemanager.projects.get": "resourcemanager.projects.get",
    "cloudresourcemanager.projects.getIamPolicy": "resourcemanager.projects.getIamPolicy",
    "cloudresourcemanager.projects.setIamPolicy": "resourcemanager.projects.setIamPolicy",
    "iam.projects.serviceAccounts.get": "iam.serviceAccounts.get",
    "iam.projects.serviceAccounts.create": "iam.serviceAccounts.create",
    "compute.projects.get": "compute.projects.get",
    "compute.projects.setCommonInstanceMetadata": "compute.projects.setCommonInstanceMetadata",
    "compute.globalOperations.get": "compute.globalOperations.get",
    "compute.zoneOperations.get": "compute.zoneOperations.get",
    "compute.instances.insert": "compute.instances.create",
    "compute.instances.list": "compute.instances.list",
    "compute.instances.setLabels": "compute.instances.setLabels",
    "compute.instances.delete": "compute.instances.delete",
}
"""The right that Google's documentation names for each method that Ray calls."""

ROLES = {
    "roles/storage.objectAdmin",
    "roles/compute.admin",
    "roles/iam.serviceAccountUser",
    "roles/iam.roleViewer",
}
"""What Ray's bootstrap grants to the service account that it makes."""


def account(call: Call) -> dict[str, str]:
    email = f"{call.body['accountId']}@my-project.iam.gserviceaccount.com"
    return {"email": email, "projectId": "my-project"}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Google:
    """An empty project: no service account, no key, no machine."""
    operation = {"name": "operation-1", "status": "DONE"}
    machine = {
        "name": "ray-w2v2-worker-1-compute",
        "labels": {"a": "b"},
        "labelFingerprint": "MQ==",
        "status": "RUNNING",
    }
    google = Google(
        answers={
            "cloudresourcemanager.projects.get": lambda call: {
                "projectId": call.arguments["projectId"],
                "lifecycleState": "ACTIVE",
            },
            "cloudresourcemanager.projects.getIamPolicy": lambda call: {"bindings": [], "etag": "MQ=="},
            "cloudresourcemanager.projects.setIamPolicy": lambda call: call.body["policy"],
            "iam.projects.serviceAccounts.get": lambda call: None,
            "iam.projects.serviceAccounts.create": account,
            "compute.projects.get": lambda call: {
                "name": "my-project",
                "commonInstanceMetadata": {"fingerprint": "MQ=="},
            },
            "compute.projects.setCommonInstanceMetadata": lambda call: operation,
            "compute.globalOperations.get": lambda call: operation,
            "compute.zoneOperations.get": lambda call: operation,
            "compute.instances.insert": lambda call: operation,
            "compute.instances.list": lambda call: {"items": [machine]},
            "compute.instances.setLabels": lambda call: operation,
            "compute.instances.delete": lambda call: operation,
        }
    )
    monkeypatch.setattr(
        httplib2.Http, "request", lambda http, *args, **kwargs: google.request(*args, **kwargs)
    )
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray puts the key pair
    return google


@pytest.fixture
def config() -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    config["provider"]["gcp_credentials"] = {"type": "credentials_token", "credentials": "no-token"}
    return config


def bootstrapped(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.gcp.config import bootstrap_gcp

    return bootstrap_gcp(config)


def provider(config: dict[str, Any]) -> Any:
    from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

    return GCPNodeProvider(config["provider"], config["cluster_name"])


def test_bootstrap_makes_an_account_with_roles_and_a_key_and_nothing_else(
    google: Google, config: dict[str, Any]
) -> None:
    bootstrapped(config)
    assert {call.method for call in google.calls} <= set(RIGHTS)
    (granted,) = [c.body["policy"] for c in google.calls if c.method.endswith("setIamPolicy")]
    members = {binding["role"]: binding["members"] for binding in granted["bindings"]}
    member = "serviceAccount:ray-autoscaler-sa-v1@my-project.iam.gserviceaccount.com"
    assert members == {role: [member] for role in ROLES}
    (metadata,) = [c.body for c in google.calls if c.method.endswith("setCommonInstanceMetadata")]
    (key,) = metadata["items"]
    assert key["key"] == "ssh-keys" and key["value"].startswith("ubuntu:ssh-rsa ")
    assert "compute.subnetworks.list" not in google.methods  # cluster.yaml names its own


def test_every_kind_of_machine_is_one_that_google_takes(google: Google, config: dict[str, Any]) -> None:
    full = bootstrapped(config)
    nodes = provider(full)
    for name, kind in full["available_node_types"].items():
        nodes.create_node(kind["node_config"], {"ray-node-name": f"ray-w2v2-{name[:4]}"}, 1)
    made = [call for call in google.calls if call.method == "compute.instances.insert"]
    assert [call.body["machineType"].rpartition("/")[2] for call in made] == [
        "n2-standard-4", "g2-standard-8", "a2-highgpu-1g", "n2-standard-16",
    ]  # fmt: skip
    for call in made:
        assert call.arguments["zone"] == config["provider"]["availability_zone"]
        (network,) = call.body["networkInterfaces"]
        assert network["subnetwork"].endswith("/subnetworks/default")
        assert f"/regions/{config['provider']['region']}/" in network["subnetwork"]
        assert call.body["serviceAccounts"][0]["email"].startswith("w2v2-ray@")


def test_machines_are_listed_labelled_and_deleted(google: Google, config: dict[str, Any]) -> None:
    nodes = provider(config)
    (name,) = nodes.non_terminated_nodes({"ray-node-type": "worker"})
    nodes.set_node_tags(name, {"ray-node-status": "up-to-date"})
    nodes.terminate_node(name)
    (listed, labelled, deleted) = (
        next(call for call in google.calls if call.method == f"compute.instances.{verb}")
        for verb in ("list", "setLabels", "delete")
    )
    assert "labels.ray-cluster-name = w2v2" in listed.arguments["filter"]
    assert labelled.body["labels"] == {"a": "b", "ray-node-status": "up-to-date"}
    assert deleted.arguments["instance"] == name


def test_the_guide_lists_every_right_that_ray_needs(google: Google, config: dict[str, Any]) -> None:
    full = bootstrapped(config)
    nodes = provider(full)
    nodes.create_node(full["available_node_types"]["head"]["node_config"], {"ray-node-name": "head"}, 1)
    nodes.set_node_tags(nodes.non_terminated_nodes({})[0], {"a": "c"})
    nodes.terminate_node(nodes.non_terminated_nodes({})[0])
    guide = (ROOT / "jobs" / "google_cloud.md").read_text()
    assert [right for method in google.methods if (right := RIGHTS[method]) not in guide] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"disks": [{"boot": True, "sizeGb": 100}]}, "has no field 'sizeGb'"),
        ({"scheduling": {"provisioningModel": "CHEAP"}}, "wanted one of"),
        ({"serviceAccounts": {"email": "a@b"}}, "wanted array"),
        ({"networkInterfaces": [{"subnet": "default"}]}, "has no field 'subnet'"),
    ],
)
def test_what_google_would_refuse_fails_here(
    google: Google, config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    full = bootstrapped(config)
    broken = copy.deepcopy(full["available_node_types"]["cpu_spot"]["node_config"]) | change
    with pytest.raises(AssertionError, match=message):
        provider(full).create_node(broken, {"ray-node-name": "worker"}, 1)


def test_a_path_that_no_document_has_is_refused() -> None:
    with pytest.raises(AssertionError, match="is no method of compute"):
        call_of("https://compute.googleapis.com/compute/v1/projects/p/zones/z/machines", "GET", None)
    with pytest.raises(AssertionError, match="has no parameter colour"):
        call_of("https://compute.googleapis.com/compute/v1/projects/p?colour=red", "GET", None)
