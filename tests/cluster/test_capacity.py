"""What a cluster has and may grow to, and which places all of its machines see."""

from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay import node_provider

from tests import ROOT
from w2v2.cluster import capacity, connection, embedding_on_ray, ray_internals
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError

NODE_TYPES = """
available_node_types:
  head: {resources: {CPU: 0, GPU: 0}}
  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 6}
  cpu: {resources: {CPU: 16}, max_workers: 2}
"""


@pytest.fixture(autouse=True)
def asked_anew():
    capacity._node_types.cache_clear()
    yield
    capacity._node_types.cache_clear()


@pytest.fixture
def grows(tmp_path, monkeypatch, ray_session):
    """A cluster made by `ray up` whose GPU machines have not come up yet."""
    (tmp_path / "types.yaml").write_text(NODE_TYPES)
    monkeypatch.setattr(ray_internals, "BOOTSTRAP", tmp_path / "types.yaml")


@pytest.fixture
def kuberay(monkeypatch, ray_session):
    """The cluster of jobs/rayjob.yaml, as the Kubernetes API describes it to a pod."""
    job = yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text())
    resource = {"metadata": {"name": "w2v2-x", "namespace": "speech"}, "spec": job["spec"]["rayClusterSpec"]}
    asked = []

    def get(client: Any, path: str) -> Any:
        asked.append((client._namespace, path))
        return resource

    monkeypatch.setattr(node_provider.KubernetesHttpApiClient, "get", get)
    monkeypatch.setenv("RAY_CLUSTER_NAME", "w2v2-x")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "speech")
    yield resource
    assert asked == [("speech", "rayclusters/w2v2-x")]


def test_machines_that_are_not_up_yet_count(grows):
    assert connection.gpus(0.5) == 0.5
    assert connection.slots(cpus=2, gpus=0.5) == 12
    assert connection.slots(cpus=8, gpus=0) == 10
    assert connection.slots(cpus=1, gpus=0, now=True) == 2


def test_machines_that_are_up_count(ray_session):
    assert connection.gpus(1.0) == 0.0
    assert connection.slots(cpus=1, gpus=0) == 2
    assert connection.slots(cpus=64, gpus=0) == 1


def test_machines_that_kuberay_may_start_count(kuberay):
    most = capacity.largest()
    assert (most["CPU"], most["GPU"]) == (7 * 8 + 15 * 4, 8)
    assert connection.slots(cpus=7, gpus=1) == 8


def test_kuberay_without_its_autoscaler_stays_as_it_is(kuberay):
    kuberay["spec"]["enableInTreeAutoscaling"] = False
    assert capacity.largest() == capacity.present()


def test_a_pod_that_may_not_ask_kubernetes_says_so(monkeypatch, tmp_path, ray_session, caplog):
    monkeypatch.setenv("RAY_CLUSTER_NAME", "w2v2-x")
    monkeypatch.setattr(ray_internals, "KUBERNETES", tmp_path)
    (tmp_path / "namespace").write_text("default")
    with caplog.at_level("WARNING"):
        assert capacity.largest() == capacity.present()
    assert "this pod may not read the RayCluster w2v2-x" in caplog.text


def test_extraction_asks_for_as_many_machines_as_its_clips_keep_busy(grows):
    config = ExtractConfig(resources=ExtractionResources(gpus_per_worker=0.5))
    allocation = embedding_on_ray.allocation_of(config, 1_000_000)
    # 80 CPUs: one for each of 12 encoders, the others read.
    assert (allocation.num_encoders, allocation.encoder_gpus, allocation.encoder_cpus) == (12, 0.5, 1.0)
    assert (allocation.num_readers, allocation.reader_cpus) == (68, 1.0)
    few = embedding_on_ray.allocation_of(config, 500)
    assert (few.num_encoders, few.num_readers, few.encoder_cpus) == (2, 11, 1.0)  # readers in proportion
    assert embedding_on_ray.allocation_of(config, 3).num_encoders == 1
    asked = embedding_on_ray.allocation_of(ExtractConfig(resources=ExtractionResources(num_workers=3)), 3)
    assert asked.num_encoders == 3


def test_extraction_on_a_cluster_that_does_not_grow_uses_all_of_it(ray_session):
    allocation = embedding_on_ray.allocation_of(ExtractConfig(), 3)
    assert (allocation.num_encoders, allocation.encoder_cpus, allocation.num_readers) == (2, 0.75, 1)
    wide = embedding_on_ray.allocation_of(
        ExtractConfig(resources=ExtractionResources(cpus_per_worker=2.0)), 3
    )
    assert (wide.num_encoders, wide.num_threads) == (1, 2)


def test_local_places_on_several_machines_are_refused(grows, monkeypatch):
    connection.check_places(run="gs://bucket/run")
    with pytest.raises(
        UserError, match=r"must be in gs://, got cache.uri=/home/me/cache; if all machines share"
    ):
        connection.check_places(**{"run": "gs://bucket/run", "cache.uri": "/home/me/cache"})
    monkeypatch.setenv("W2V2_SHARED_DISK", "1")
    connection.check_places(run="/shared/run")


def test_one_machine_takes_local_places(ray_session):
    connection.check_places(run="/home/me/run")
