"""A Ray cluster of two nodes on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of two raylets of one core each. They have this process's environment as it is now."""
    ray_cluster = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    nodes = ray_cluster.Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        yield nodes.address
    finally:
        nodes.shutdown()


TOGETHER = """
import ray.data
from vssl_client.folder import ray as ray_work
ray.data.DataContext.get_current().wait_for_min_actors_s = 100
ray_work.TASK_CHUNKS = 1
"""
"""For the command's process: so few images would be done before the second node's actor has started."""
