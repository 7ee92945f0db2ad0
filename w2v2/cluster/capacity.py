"""The capacity of a cluster, now and at its largest, when all machines that it may start are up."""

import functools
import logging
import math

from w2v2.cluster.ray_internals import NodeType, growth_limits, node_types

# isort: split

import ray

logger = logging.getLogger(__name__)


def present() -> dict[str, float]:
    """Resources of the machines that are up, by name (CPU, GPU)."""
    return {name: float(number) for name, number in ray.cluster_resources().items()}


def largest() -> dict[str, float]:
    """Resources of the cluster at its largest; of the machines that are up if it cannot grow."""
    up = present()
    planned = _planned(_node_types()) or growth_limits()
    return {name: max(up.get(name, 0.0), planned.get(name, 0.0)) for name in up.keys() | planned.keys()}


def has_several_machines() -> bool:
    """Whether several machines are up, or may be."""
    types = _node_types()
    return sum(node["Alive"] for node in ray.nodes()) > 1 or any(kind.max_workers for kind in types)


def num_fitting(resources: dict[str, float], *, cpus: float, gpus: float) -> int:
    """The number of workers of this size that fit into the resources.

    >>> num_fitting({"CPU": 8.0, "GPU": 1.0}, cpus=2, gpus=0.25)
    4
    """
    # A number that rounding has made slightly smaller than a whole number counts as that number.
    by_cpu = math.floor(resources.get("CPU", 0.0) / cpus + 1e-9)
    return min(by_cpu, math.floor(resources.get("GPU", 0.0) / gpus + 1e-9)) if gpus else by_cpu


@functools.cache
def _node_types() -> tuple[NodeType, ...]:
    """The kinds of machines of the cluster, asked for once a job."""
    types = node_types()
    if types:
        logger.info(
            "ray: the cluster may grow to %s",
            ", ".join(f"{kind.max_workers} x {kind.name}" for kind in types if kind.max_workers)
            or "no machine more",
        )
    return types


def _planned(types: tuple[NodeType, ...]) -> dict[str, float]:
    planned: dict[str, float] = {}
    for kind in types:
        for name, number in kind.resources.items():
            planned[name] = planned.get(name, 0.0) + number * kind.max_workers
    return planned
