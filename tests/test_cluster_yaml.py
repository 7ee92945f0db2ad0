"""cluster.yaml: Ray's own checks, and those that Ray leaves to Google's refusal after minutes of waiting."""

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from tests import ROOT

# CPUs and GPUs of a machine type, from Google's tables of machine families.
MACHINES = {
    "n2-standard-4": (4, 0),
    "n2-standard-16": (16, 0),
    "g2-standard-8": (8, 1),
    "a2-highgpu-1g": (12, 1),
}
# Fields of Scheduling in the Compute Engine v1 API that this file may set, and the values it may give them.
SCHEDULING: dict[str, tuple[object, ...]] = {
    "provisioningModel": ("SPOT",),
    "instanceTerminationAction": ("DELETE",),
    "onHostMaintenance": ("TERMINATE",),
    "automaticRestart": (False,),
}
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    # Through text, so that what YAML anchors share is not shared here and can be broken in one place.
    loaded = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return copy.deepcopy(yaml.safe_load(yaml.dump(loaded, Dumper=_NoAliases, sort_keys=False)))


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def prepared(config: Config) -> Config:
    """The config as `ray up` would use it, refused where `ray up` would refuse it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    full = prepare_config(copy.deepcopy(config))
    validate_config(full)
    return full


def problems(config: Config) -> list[str]:
    """What Ray does not look at: node_config, and whether it agrees with the resources."""
    types: dict[str, Config] = config["available_node_types"]
    mistakes = [f"{name} is not written" for name in COMMANDS if name not in config]
    for name, kind in types.items():
        node = kind["node_config"]
        mistakes += [
            f"{name}: {problem}" for problem in _machine(node, kind["resources"], config["provider"])
        ]
        if name == config["head_node_type"]:
            mistakes += [f"{name}: the head is spot"] if "scheduling" in node else []
            mistakes += [f"{name}: the head has CPUs to give"] if kind["resources"]["CPU"] else []
        else:
            mistakes += [f"{name}: {problem}" for problem in _spot(kind, config)]
    return mistakes


def _machine(node: Config, resources: dict[str, int], provider: Config) -> list[str]:
    cpus, gpus = MACHINES[node["machineType"]]
    problem = []
    if resources["CPU"] not in (0, cpus) or resources.get("GPU", 0) != gpus:
        problem.append(f"{node['machineType']} has {cpus} CPUs and {gpus} GPUs")
    accounts = node.get("serviceAccounts", [])
    if [account["scopes"] for account in accounts] != [["https://www.googleapis.com/auth/cloud-platform"]]:
        problem.append("needs one service account with the cloud-platform scope")
    if not all(f"@{provider['project_id']}." in account["email"] for account in accounts):
        problem.append("the service account is of another project")
    (disk,) = node["disks"]
    zone = provider["availability_zone"]
    if disk["initializeParams"]["diskType"] != f"zones/{zone}/diskTypes/pd-balanced":
        problem.append("the disk is not pd-balanced in this zone")
    if not (disk["boot"] and disk["autoDelete"]):
        problem.append("the disk outlives the machine")
    if not zone.startswith(f"{provider['region']}-"):
        problem.append("the zone is not in the region")
    return problem


def _spot(kind: Config, config: Config) -> list[str]:
    scheduling, gpus = kind["node_config"].get("scheduling", {}), kind["resources"].get("GPU", 0)
    problem = []
    if scheduling.get("provisioningModel") != "SPOT":
        problem.append("is not spot")
    if not all(value in SCHEDULING.get(field, ()) for field, value in scheduling.items()):
        problem.append(f"scheduling has an unknown field or value: {scheduling}")
    if gpus and scheduling.get("onHostMaintenance") != "TERMINATE":
        problem.append("a machine with a GPU cannot migrate")
    if kind.get("min_workers", 0):
        problem.append("costs money while nothing runs")
    setup: list[str] = kind.get("worker_setup_commands") or config["setup_commands"]
    if not all(command in setup for command in config["setup_commands"]):
        problem.append("its own setup leaves out a common command")
    if gpus and not any("torch" in command and "cuda" in command for command in setup):
        problem.append("does not check that torch can use the GPU")
    return problem


def test_ray_and_our_own_checks_accept_it(config: Config) -> None:
    prepared(config)
    assert problems(config) == []


def test_the_pools_are_the_documented_ones(config: Config) -> None:
    machines = {
        name: kind["node_config"]["machineType"] for name, kind in config["available_node_types"].items()
    }
    assert machines == {
        "head": "n2-standard-4",
        "gpu_l4_spot": "g2-standard-8",
        "gpu_a100_spot": "a2-highgpu-1g",
        "cpu_spot": "n2-standard-16",
    }


def test_no_command_of_rays_defaults_slips_in(config: Config) -> None:
    # Ray's defaults install an old nightly of Ray wherever a list of commands is left out.
    full = prepared(config)
    assert full["head_setup_commands"] == config["setup_commands"] + config["head_setup_commands"]
    assert full["worker_setup_commands"] == config["setup_commands"] + config["worker_setup_commands"]
    del config["setup_commands"]
    assert any("s3" in command for command in prepared(config)["worker_setup_commands"])


def test_image_and_requirements_have_one_ray(config: Config) -> None:
    pins = dict(
        line.partition(";")[0].split("==") for line in (ROOT / "requirements.txt").read_text().splitlines()
    )
    text = (ROOT / "cluster.yaml").read_text()
    assert f"FROM rayproject/ray:{pins['ray']}-py311-gpu\n" in text
    assert f"ray[default]=={pins['ray']}" in text
    assert config["docker"]["image"].startswith("MY-REGISTRY/")


def test_what_is_mounted_is_what_is_used(config: Config) -> None:
    requirements, token = config["file_mounts"]
    assert (ROOT / config["file_mounts"][requirements]).is_file()
    assert any(command.endswith(f"-r {requirements}") for command in config["setup_commands"])
    assert f"-e RAY_AUTH_TOKEN_PATH={token}" in config["docker"]["run_options"]
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]


def test_the_dashboard_is_reached_by_tunnel_only(config: Config) -> None:
    (start,) = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--num-cpus=0" in start


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda c: c.update(head_node_type="nobody"), "`head_node_type` must be one of"),
        (lambda c: c.update(max_worker=3), "max_worker"),
        (lambda c: c["available_node_types"]["cpu_spot"]["resources"].update(CPU=0.5), "0.5"),
        (lambda c: c["available_node_types"]["cpu_spot"].pop("node_config"), "node_config"),
        (lambda c: c["auth"].update(user="me"), "user"),
    ],
)
def test_ray_refuses_a_broken_copy(
    config: Config, breakage: Callable[[Config], object], message: str
) -> None:
    breakage(config)
    with pytest.raises((jsonschema.ValidationError, ValueError), match=message):
        prepared(config)


def _node(config: Config, name: str) -> Config:
    return config["available_node_types"][name]["node_config"]


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [
        (lambda c: _node(c, "gpu_l4_spot").pop("scheduling"), "gpu_l4_spot: is not spot"),
        (lambda c: _node(c, "cpu_spot").pop("serviceAccounts"), "cpu_spot: needs one service account"),
        (
            lambda c: _node(c, "head").update(scheduling={"provisioningModel": "SPOT"}),
            "head: the head is spot",
        ),
        (lambda c: _node(c, "gpu_l4_spot").update(machineType="n2-standard-16"), "has 16 CPUs and 0 GPUs"),
        (lambda c: _node(c, "gpu_a100_spot")["scheduling"].pop("onHostMaintenance"), "cannot migrate"),
        (lambda c: _node(c, "cpu_spot")["scheduling"].update(preemptable=True), "unknown field"),
        (lambda c: c["available_node_types"]["head"]["resources"].update(CPU=4), "has CPUs to give"),
        (lambda c: c["available_node_types"]["cpu_spot"].update(min_workers=1), "while nothing runs"),
        (lambda c: c["available_node_types"]["gpu_l4_spot"]["worker_setup_commands"].pop(1), "leaves out"),
        (
            lambda c: c["available_node_types"]["gpu_l4_spot"]["worker_setup_commands"].pop(),
            "check that torch",
        ),
        (lambda c: c["provider"].update(project_id="other"), "of another project"),
        (lambda c: c["provider"].update(availability_zone="europe-west4-a"), "not in the region"),
        (lambda c: c["provider"].update(availability_zone="us-central1-b"), "not pd-balanced in this zone"),
        (lambda c: _node(c, "head")["disks"][0].update(autoDelete=False), "outlives the machine"),
        (lambda c: c.pop("worker_setup_commands"), "worker_setup_commands is not written"),
    ],
)
def test_our_own_checks_refuse_a_broken_copy(
    config: Config, breakage: Callable[[Config], object], problem: str
) -> None:
    breakage(config)
    assert any(problem in mistakes for mistakes in problems(config)), problems(config)
