"""Finds the cluster that a job joins and checks in seconds whether it answers; Ray itself retries for minutes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import grpc
import ray
from ray import _raylet
from ray._common.utils import get_ray_address_file
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc, ray_client_pb2, ray_client_pb2_grpc
from ray.exceptions import AuthenticationError

from gscnn_platform.cluster.errors import ClusterError

ADDRESS: Final = "RAY_ADDRESS"
PATIENCE_SECONDS: Final = 5.0
"""Seconds that an address may take to answer."""
CLIENT: Final = "ray://"
TOKEN_FILE: Final = "~/.ray/auth_token"

Reply = TypeVar("Reply")

# Generated code and an extension module, whose names type checkers do not see.
_heads: Any = gcs_service_pb2
_clients: Any = ray_client_pb2
_raylets: Any = _raylet


class Named(NamedTuple):
    """A cluster for a job to join."""

    address: str
    """`HOST:PORT`, or `ray://HOST:PORT`."""
    source: str
    """The source of the address: RAY_ADDRESS, or the file that `ray start` left."""

    @property
    def way_out(self) -> str:
        """How to start a cluster on this machine instead."""
        return "unset it" if self.source == ADDRESS else f"export {ADDRESS}=local"


def named_cluster() -> Named | None:
    """The cluster that RAY_ADDRESS names, else the one that this user started here with `ray start`; None if there is
    neither.

    Raises:
        ClusterError: RAY_ADDRESS is not an address, or is `auto` and this machine runs no cluster or several.
    """
    given = os.environ.get(ADDRESS, "")
    if given == "local":
        return None
    if given == "auto":
        return _any_of_this_machine()
    if given:
        return Named(given, ADDRESS)
    file = Path(get_ray_address_file(None))
    try:
        address, owner = file.read_text(encoding="utf-8").strip(), file.stat().st_uid
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    # A colleague's cluster would run the job as that colleague.
    return Named(address, f"{file} of `ray start`") if address and owner == os.getuid() else None


def check_answers(named: Named) -> str:
    """The address to connect to, if the cluster answers, accepts this user's token and has a node here.

    Raises:
        ClusterError: what is wrong, and what to do.
    """
    place = named.address.removeprefix(CLIENT)
    if "://" in place:
        raise ClusterError(
            f"{named.source} is {named.address}: that is for `ray job submit`, which reads it from "
            f"RAY_API_SERVER_ADDRESS too; unset {ADDRESS} to run here, or submit the job"
        )
    try:
        port = urlsplit(f"//{place}").port
    except ValueError:
        port = None
    if port is None:
        raise ClusterError(
            f"{named.source} is {named.address!r}: expected HOST:PORT, as in 10.0.0.1:6379, or ray://HOST:10001; "
            f"{named.way_out} to start a cluster here"
        )
    if named.source != ADDRESS:
        # As in Ray: a cluster of this user on this machine has this user's token.
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    check_token_is_there(named)
    if named.address.startswith(CLIENT):
        _check_client(named, place)
        return named.address
    address = services.canonicalize_bootstrap_address(place)
    assert address is not None
    _check_head(named, address)
    return address


def has_token(anew: bool = False) -> bool:
    """Whether this user has a token, whatever RAY_AUTH_MODE is; `anew` looks again, because Ray looks only once.

    Raises:
        ClusterError: RAY_AUTH_TOKEN_PATH is not a file with a token.
    """
    tokens = _raylets.AuthenticationTokenLoader.instance()
    if anew:
        tokens.reset_cache()
    try:
        return tokens.has_token(ignore_auth_mode=True)
    except AuthenticationError as error:
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH is {os.environ.get('RAY_AUTH_TOKEN_PATH')}, which is empty or cannot be read: "
            f"copy the head's {TOKEN_FILE} there, or unset it"
        ) from error


def check_token_is_there(named: Named) -> None:
    """Raises a ClusterError if a token is required and there is none."""
    if is_token_auth_enabled() and not has_token():
        raise ClusterError(
            f"RAY_AUTH_MODE is token, and there is no token for the cluster at {named.address}: "
            f"copy its head's {TOKEN_FILE} to this machine, or set RAY_AUTH_TOKEN_PATH to a copy"
        )


def _any_of_this_machine() -> Named:
    """The cluster of RAY_ADDRESS=auto: the one from `ray start`, or the only one that runs here."""
    running = sorted(services.find_gcs_addresses())
    last = services.find_bootstrap_address(None)
    if last in running or (last and not running):
        return Named(last, f"{ADDRESS}=auto by {get_ray_address_file(None)}")
    if len(running) == 1:
        return Named(running[0], f"{ADDRESS}=auto")
    if running:
        raise ClusterError(
            f"{ADDRESS} is auto, and several clusters run on this machine: export {ADDRESS}=ADDRESS, "
            f"one of {', '.join(running)}"
        )
    raise ClusterError(
        f"{ADDRESS} is auto, and no cluster runs on this machine: unset it to start one for this job, "
        "or run `ray start --head` first"
    )


def _check_head(named: Named, address: str) -> None:
    """Rejects a head that does not answer, has other versions, or has no node on this machine."""
    with _channel(address) as channel:
        nodes = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        alive = _asked(named, lambda: nodes.CheckAlive(_heads.CheckAliveRequest(), timeout=PATIENCE_SECONDS))
        if alive.ray_version != ray.__version__:
            raise ClusterError(
                f"the cluster at {named.address}, which {named.source} names, runs Ray {alive.ray_version}, but this "
                f"is Ray {ray.__version__}: install that version, or {named.way_out} to start a cluster here"
            )
        known = _asked(named, lambda: nodes.GetAllNodeInfo(_nodes_here(), timeout=PATIENCE_SECONDS)).node_info_list
    if not known:
        raise ClusterError(
            f"no node of the cluster at {named.address}, which {named.source} names, runs on this machine: submit the "
            f"job with `ray job submit --working-dir . …`, or {named.way_out} to start a cluster here"
        )


def _nodes_here() -> Any:
    selector = _heads.GetAllNodeInfoRequest.NodeSelector
    here = [selector(node_id=bytes.fromhex(node)) for node in services.find_node_ids()]
    # No selector at all would mean every node.
    none = [selector(node_id=bytes(28))]
    return _heads.GetAllNodeInfoRequest(node_selectors=here or none)


def _check_client(named: Named, place: str) -> None:
    with _channel(place) as channel:
        server = ray_client_pb2_grpc.RayletDriverStub(channel)
        ping = _clients.ClusterInfoRequest(type=_clients.ClusterInfoType.PING)
        _asked(named, lambda: server.ClusterInfo(ping, timeout=PATIENCE_SECONDS, metadata=[("client_id", "check")]))


def _channel(address: str) -> grpc.Channel:
    # Like Ray's own connections, this bypasses HTTP proxies.
    channel: Any = init_grpc_channel(address, options=[("grpc.enable_http_proxy", 0)])
    return channel


def _asked(named: Named, ask: Callable[[], Reply]) -> Reply:
    """The cluster's reply; raises a ClusterError that says why there is none."""
    try:
        return ask()
    except grpc.RpcError as error:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code is grpc.StatusCode.UNAUTHENTICATED:
            raise ClusterError(_refused(named)) from error
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            says = f"no cluster answers at {named.address}, which {named.source} names"
        else:
            says = f"{named.address}, which {named.source} names, is not the address of a Ray cluster"
        raise ClusterError(f"{says}: {named.way_out} to start one here, or set {ADDRESS} to another") from error


def _refused(named: Named) -> str:
    if is_token_auth_enabled():
        return (
            f"the cluster at {named.address}, which {named.source} names, refuses this token: "
            f"copy its head's {TOKEN_FILE} to this machine, or set RAY_AUTH_TOKEN_PATH to a copy"
        )
    return (
        f"the cluster at {named.address}, which {named.source} names, requires a token: export RAY_AUTH_MODE=token, "
        f"with its head's token in {TOKEN_FILE}"
    )
