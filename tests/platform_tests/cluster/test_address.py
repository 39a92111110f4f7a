"""A cluster is asked whether it answers by real connections: to closed ports, silent ones, and a head made here."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from gscnn_platform.cluster import ClusterError, address
from gscnn_platform.cluster.address import Named, check_answers, named_cluster

MESSAGES: Any = gcs_service_pb2
MOST_SECONDS = 10


class Head(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """Answers as the head of a cluster does."""

    def __init__(self, version: str = ray.__version__, token: str | None = None, nodes: int = 1) -> None:
        self.version, self.token, self.nodes = version, token, nodes

    def CheckAlive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - as Ray calls it
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return MESSAGES.CheckAliveReply(ray_version=self.version)

    def GetAllNodeInfo(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - as Ray calls it
        assert request.node_selectors, "without a selector every node of the cluster would count"
        reply = MESSAGES.GetAllNodeInfoReply()
        for _ in range(self.nodes):
            reply.node_info_list.add()
        return reply


@contextmanager
def serving(head: Head) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(head, server)
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_named_with_what_names_it_and_the_way_out(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"{scheme}127.0.0.1:{closed_port()}"
    monkeypatch.setenv("RAY_ADDRESS", dead)
    named, began = named_cluster(), time.monotonic()
    assert named is not None
    assert named == Named(dead, "RAY_ADDRESS")
    with pytest.raises(ClusterError) as refused:
        check_answers(named)
    assert time.monotonic() - began < MOST_SECONDS
    assert str(refused.value).startswith(
        f"no cluster answers at {dead}, which RAY_ADDRESS names: unset it to start one here"
    )
    assert str(refused.value).count("\n") < 3


def test_an_address_that_takes_connections_and_stays_silent_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        named = Named(f"127.0.0.1:{silent.getsockname()[1]}", "RAY_ADDRESS")
        with pytest.raises(ClusterError, match="no cluster answers at"):
            check_answers(named)


def test_a_host_without_an_address_is_dead() -> None:
    with pytest.raises(ClusterError, match=r"no cluster answers at no-such-host\.invalid:6379"):
        check_answers(Named("no-such-host.invalid:6379", "RAY_ADDRESS"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("http://127.0.0.1:8265", "RAY_ADDRESS is http://127.0.0.1:8265: that is for `ray job submit`"),
        ("head", "RAY_ADDRESS is 'head': expected HOST:PORT"),
        ("head:six", "RAY_ADDRESS is 'head:six': expected HOST:PORT"),
        ("head:99999", "RAY_ADDRESS is 'head:99999': expected HOST:PORT"),
        ("ray://", "RAY_ADDRESS is 'ray://': expected HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(given: str, says: str) -> None:
    with pytest.raises(ClusterError) as refused:
        check_answers(Named(given, "RAY_ADDRESS"))
    assert str(refused.value).startswith(says)
    assert "unset" in str(refused.value)


def test_a_head_that_answers_is_joined() -> None:
    with serving(Head()) as place:
        host, _, port = check_answers(Named(place, "RAY_ADDRESS")).rpartition(":")
        assert port == place.rpartition(":")[2]
        # Ray replaces loopback by the address that other nodes have for this one.
        socket.create_connection((host, int(port)), timeout=5).close()


def test_a_head_of_another_version_is_refused_with_both() -> None:
    with (
        serving(Head(version="2.40.0")) as place,
        pytest.raises(ClusterError, match=r"runs Ray 2\.40\.0, but this is Ray 2"),
    ):
        check_answers(Named(place, "RAY_ADDRESS"))


def test_a_cluster_without_a_node_on_this_machine_is_for_submitted_jobs() -> None:
    with (
        serving(Head(nodes=0)) as place,
        pytest.raises(ClusterError, match="runs on this machine: submit the job with"),
    ):
        check_answers(Named(place, "RAY_ADDRESS"))


def test_a_head_that_asks_for_a_token_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    # A cluster that this process started earlier would have switched it on.
    monkeypatch.setattr(address, "is_token_auth_enabled", lambda: False)
    with serving(Head(token="right" * 8)) as place, pytest.raises(ClusterError) as refused:
        check_answers(Named(place, "RAY_ADDRESS"))
    assert "requires a token: export RAY_AUTH_MODE=token, with its head's token in ~/.ray/auth_token" in str(
        refused.value
    )


def test_the_cluster_that_this_users_ray_start_left_is_named_by_its_file(tmp_path: Path) -> None:
    assert named_cluster() is None
    (tmp_path / "ray").mkdir()
    file = tmp_path / "ray/ray_current_cluster"
    file.write_text(f"127.0.0.1:{closed_port()}\n", encoding="utf-8")
    named = named_cluster()
    assert named is not None
    with pytest.raises(ClusterError) as refused:
        check_answers(named)
    assert f"which {file} of `ray start` names: export RAY_ADDRESS=local to start one here" in str(refused.value)


def test_a_colleagues_cluster_is_not_joined_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text("127.0.0.1:6379", encoding="utf-8")
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert named_cluster() is None


def test_local_means_a_cluster_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert named_cluster() is None


@pytest.mark.parametrize(
    ("running", "says"),
    [
        ([], "RAY_ADDRESS is auto, and no cluster runs on this machine: unset it"),
        (["10.0.0.1:1", "10.0.0.1:2"], "several clusters run on this machine: export RAY_ADDRESS=ADDRESS, one of 10"),
    ],
)
def test_auto_without_one_cluster_to_choose_says_so(
    running: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(address.services, "find_gcs_addresses", lambda: frozenset(running))
    with pytest.raises(ClusterError, match=says):
        named_cluster()


def test_auto_takes_the_only_cluster_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(address.services, "find_gcs_addresses", lambda: frozenset(["10.0.0.1:6379"]))
    named = named_cluster()
    assert named is not None
    assert named.address == "10.0.0.1:6379"


def test_a_token_file_that_is_empty_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").touch()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(
        ClusterError, match=f"RAY_AUTH_TOKEN_PATH is {tmp_path}/token, which is empty or cannot be read"
    ):
        address.has_token(anew=True)
    monkeypatch.undo()
    address.has_token(anew=True)
