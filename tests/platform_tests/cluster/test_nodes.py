from collections.abc import Sequence

import pytest
import ray

from gscnn_platform import cluster
from gscnn_platform.cluster import Node
from tests.nodes import clusters, there

HEAD_AND_TWO_GPU_NODES = [Node(4), Node(96, 8), Node(96, 8)]


def placed(nodes: Sequence[Node], num_workers: int, cpus: int, gpus: int) -> bool:
    """Whether all workers find a node when each takes the first that has room, as a scheduler would let them."""
    left = [list(node) for node in nodes]
    for _ in range(num_workers):
        node = next((node for node in left if node[0] >= cpus and node[1] >= gpus), None)
        if node is None:
            return False
        node[0], node[1] = node[0] - cpus, node[1] - gpus
    return True


def test_room_is_what_a_scheduler_finds_a_node_for() -> None:
    assert cluster.room([Node(2)] * 3, cpus=3, gpus=0) == 0, "6 cores in all are no node of 3"
    for nodes in clusters(200):
        for cpus, gpus in ((1, 0), (3, 0), (5, 0), (1, 1), (3, 1), (2, 2)):
            room = cluster.room(nodes, cpus, gpus)
            assert placed(nodes, room, cpus, gpus)
            assert not placed(nodes, room + 1, cpus, gpus)


@pytest.mark.parametrize(
    ("nodes", "num_workers", "cpus"),
    [
        ([Node(2)] * 3, 2, 2),
        ([Node(2)] * 3, 3, 2),
        ([Node(2)] * 3, 4, 1),
        ([Node(4), Node(2)], 2, 2),
        ([Node(8), Node(2)], 2, 4),
        ([Node(2)], 2, 1),
        ([Node(2)], 5, 1),
        ([], 1, 1),
    ],
)
def test_the_share_of_a_worker_without_a_gpu(nodes: list[Node], num_workers: int, cpus: int) -> None:
    assert cluster.share(nodes, num_workers, gpus=0) == cpus


def test_the_share_without_a_gpu_is_the_largest_with_which_all_workers_find_a_node() -> None:
    for nodes in clusters(200):
        for num_workers in range(1, sum(node.cpus for node in nodes) + 1):
            cpus = cluster.share(nodes, num_workers, gpus=0)
            assert placed(nodes, num_workers, cpus, 0)
            assert not placed(nodes, num_workers, cpus + 1, 0)


def test_workers_on_gpus_take_the_cores_of_their_gpu_so_that_a_node_holds_as_many_as_it_has_gpus() -> None:
    for num_workers in (1, 8, 16):
        assert cluster.share(HEAD_AND_TWO_GPU_NODES, num_workers, gpus=1) == 12
    assert cluster.room([Node(96, 8)], cpus=12, gpus=1) == 8
    assert cluster.share([Node(96, 8), Node(16, 4)], 8, gpus=1) == 12, "the node with few cores is not needed"
    assert cluster.share([Node(96, 8), Node(16, 4)], 9, gpus=1) == 4
    for nodes in clusters(200):
        for num_workers in range(1, cluster.room(nodes, 1, 1) + 1):
            if all(node.cpus >= node.gpus for node in nodes):
                assert placed(nodes, num_workers, cluster.share(nodes, num_workers, gpus=1), 1)


def test_more_gpus_than_are_there_yet_get_the_share_of_those_that_are() -> None:
    assert cluster.share([Node(96, 8)], 16, gpus=1) == 12
    assert cluster.share([], 16, gpus=1) == 1


def test_dead_nodes_and_a_head_that_runs_no_tasks_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, [Node(2), Node(8, 2)], head=True)
    ray.nodes().append({"Alive": False, "Resources": {}})
    ray.nodes().append({"Alive": False, "Resources": {"CPU": 64.0}})
    assert cluster.alive_nodes() == [Node(2), Node(8, 2)]


def test_what_is_lacking_names_the_sizes_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, HEAD_AND_TWO_GPU_NODES)
    assert cluster.lacking(16, 12, 1) is None
    assert cluster.lacking(16, 13, 1) == (
        "16 x 13 CPU and 1 GPU, and the cluster has 2 nodes of 96 CPU and 8 GPU, 1 node of 4 CPU, room for 14"
    )
    there(monkeypatch, [Node(cpus) for cpus in (1, 2, 3, 4, 5, 6)])
    assert "1 node of 4 CPU, 2 others, room for 0" in str(cluster.lacking(1, 7, 0))
    there(monkeypatch, [], head=True)
    assert cluster.lacking(1, 1, 0) == "1 x 1 CPU, and the cluster has no node that runs tasks, room for 0"
