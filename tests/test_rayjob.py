"""jobs/rayjob.yaml: what KubeRay's schema, Ray's own autoscaler and the job's settings make of it."""

import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests import ROOT
from w2v2.config import command_line
from w2v2.config.tune_folds import TuneFoldsConfig

CRD = os.environ.get("W2V2_RAYJOB_CRD", "")
"""KubeRay's custom resource definition of a RayJob: ray.io_rayjobs.yaml of ray-project/kuberay, helm-chart/kuberay-operator/crds."""


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text())


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if isinstance(closed.get("properties"), dict) and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@pytest.fixture(scope="module")
def schema() -> Any:
    if not CRD:
        pytest.skip("W2V2_RAYJOB_CRD names no file with KubeRay's definition of a RayJob")
    versions = yaml.load(Path(CRD).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"][
        "versions"
    ]
    (v1,) = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    whole = strict(v1)
    whole["properties"]["metadata"] = {"type": "object"}
    return whole


def test_kuberay_knows_every_field(job: dict[str, Any], schema: Any) -> None:
    problems = jsonschema.validators.validator_for(schema)(schema).iter_errors(job)
    assert [problem.message for problem in problems] == []


@pytest.mark.parametrize("where", ["pod", "group", "job"])
def test_a_field_that_kuberay_does_not_know_is_refused(job: dict[str, Any], schema: Any, where: str) -> None:
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    {"pod": group["template"]["spec"], "group": group, "job": job["spec"]}[where]["spott"] = True
    with pytest.raises(jsonschema.ValidationError, match="spott"):
        jsonschema.validate(job, schema)


def test_rays_autoscaler_reads_the_groups_as_intended(job: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = {"metadata": {"name": "w2v2", "namespace": "default"}, "spec": job["spec"]["rayClusterSpec"]}
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    kinds = {
        name: (
            kind["resources"]["CPU"],
            kind["resources"].get("GPU", 0),
            kind["min_workers"],
            kind["max_workers"],
        )
        for name, kind in config["available_node_types"].items()
    }
    assert kinds == {"headgroup": (0, 0, 0, 0), "gpu-l4-spot": (7, 1, 0, 8), "cpu-spot": (15, 0, 0, 4)}
    assert config["idle_timeout_minutes"] == 5


def test_the_command_is_one_that_the_job_takes(job: dict[str, Any]) -> None:
    python, script, *flags = shlex.split(job["spec"]["entrypoint"])
    assert python == "python" and script == "/home/ray/w2v2/jobs/tune_folds.py"
    config = command_line.parse(TuneFoldsConfig, flags)
    assert all(uri.startswith("gs://") for uri in (config.run, config.cache.uri, config.data.uri))


def test_one_ray_for_the_cluster_the_image_and_the_requirements(job: dict[str, Any]) -> None:
    pins = dict(
        line.partition(";")[0].split("==") for line in (ROOT / "requirements.txt").read_text().splitlines()
    )
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pins["ray"]
    dockerfile = (ROOT / "jobs" / "google_cloud.md").read_text()
    assert f"FROM rayproject/ray:{pins['ray']}-py311-gpu\n" in dockerfile
    assert "COPY . /home/ray/w2v2\n" in dockerfile


def test_workers_are_spot_with_an_identity_and_the_head_is_neither_spot_nor_busy(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert "nodeSelector" not in head and cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
        assert any(toleration["key"] == "cloud.google.com/gke-spot" for toleration in pod["tolerations"])
        (container,) = pod["containers"]
        resources, start = container["resources"], group["rayStartParams"]
        assert resources["limits"] == resources["requests"]
        assert resources["limits"]["cpu"] == start["num-cpus"]
        assert resources["limits"].get("nvidia.com/gpu") == start.get("num-gpus")
        assert pod["serviceAccountName"] == head["serviceAccountName"] == "w2v2"
