"""Who may run code on a Ray cluster: whoever reaches its ports, unless it asks for a token.

What Ray itself says of a cluster is what this process has been told to believe (RAY_AUTH_MODE). So the question is put
to the cluster, as a stranger would: a call without a token, which one that asks for tokens refuses.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.config import ray_for_itself, ray_uses_tls
from coldfuse.errors import TransportError, UserInputError

if TYPE_CHECKING:
    import grpc

_KNOCK_S = 10.0
"""Seconds that a cluster has to answer."""

_NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
_CLIENTS = "/ray.rpc.RayletDriver/ClusterInfo"
"""A method of the head, and one of the server for `ray://`; both change nothing."""

_FOLDER = "coldfuse-ray-"
"""Beginning of the name of a folder with a token."""

_NEW_S = 60.0
"""Seconds in which a token's file may not be locked yet by the process that makes it."""

_CLIENT_SCHEME = "ray://"


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """What a stranger without a token finds out about a cluster."""

    address: str
    """Where it is."""
    asks_token: bool
    """Whether it refuses to answer."""
    machines: tuple[str, ...] | None = ()
    """Addresses of its machines, which one that asks tells no stranger; None: it answers, and they remain unknown."""


def why_not_join(frontier: Frontier) -> str | None:
    """Say why a cluster must not be joined; None where only those with a token, or on this machine, can use it.

    >>> why_not_join(Frontier(address="10.0.0.5:6379", asks_token=True))
    >>> why_not_join(Frontier(address="127.0.0.1:6379", asks_token=False, machines=("127.0.0.1",)))
    """
    if frontier.asks_token:
        return None
    if is_loopback(frontier.address) and frontier.machines and all(map(is_loopback, frontier.machines)):
        return None
    return (
        f"the Ray cluster at {frontier.address} asks nobody for a token, and other machines may reach it: whoever does "
        "runs code there, and publishes what they like. Start it with Ray 2.52 or newer, RAY_AUTH_MODE=token and, in "
        "RAY_AUTH_TOKEN_PATH, a file with the token (`ray get-auth-token --generate` makes one) on all its machines"
    )


def require_frontier(address: str) -> None:
    """Refuse a cluster that anybody who reaches it can use, and one that does not let this process in.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto.

    Raises:
        UserInputError: It asks for no token, and not only this machine reaches it.
        TransportError: It does not say, or does not take this process's token.
    """
    frontier = look(address)
    if reason := why_not_join(frontier):
        raise UserInputError(reason)
    if frontier.asks_token and _knock(frontier.address, _own_header()) is None:  # Ray itself would try for long
        raise TransportError(
            f"cannot join the Ray cluster at {frontier.address}: it does not take the token of this process; name a "
            "file with that of the cluster in RAY_AUTH_TOKEN_PATH, or put it into ~/.ray/auth_token"
        )


def look(address: str) -> Frontier:
    """Ask a cluster what it tells a stranger. Raises `TransportError` if there is none that answers."""
    place = _resolve(address)
    answer = _knock(place, ())
    return Frontier(address=place, asks_token=answer is None, machines=_machines(answer) if answer else None)


def _knock(place: str, header: tuple[tuple[str, str], ...]) -> bytes | None:
    """Put a question to a cluster; None: it is not answered to somebody with this header."""
    import grpc

    method = _CLIENTS if place.startswith(_CLIENT_SCHEME) else _NODES
    with _open_channel(place.removeprefix(_CLIENT_SCHEME)) as channel:
        try:
            answer = channel.unary_unary(method, bytes, bytes)(b"", timeout=_KNOCK_S, metadata=header)
        except grpc.RpcError as error:
            return _read_refusal(place, error)
    return answer if method == _NODES else b""


def _read_refusal(place: str, error: grpc.RpcError) -> bytes | None:
    """Tell one that wants a token (None) from one that has taken the question, and only cannot answer it (nothing)."""
    import grpc

    codes = grpc.StatusCode
    if error.code() in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
        return None
    if error.code() in (codes.NOT_FOUND, codes.INVALID_ARGUMENT, codes.FAILED_PRECONDITION, codes.RESOURCE_EXHAUSTED):
        return b""
    raise TransportError(
        f"{place}: does not answer as a Ray cluster does ({error.code().name}: {error.details()}); is this its "
        "address, and do both ends agree on RAY_USE_TLS?"
    )


def _own_header() -> tuple[tuple[str, str], ...]:
    """Return how this process shows the token that it has been given; nothing where it has none."""
    import ray
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # its stubs say little

    try:
        return tuple(AuthenticationTokenLoader.instance().get_token_for_http_header().items())
    except (RuntimeError, ray.exceptions.RayError):  # the file that was named is not there, or is empty
        return ()


def is_loopback(address: str) -> bool:
    """Tell whether HOST or HOST:PORT is this machine's loopback.

    >>> [is_loopback(each) for each in ("127.0.0.1:6379", "localhost:1", "[::1]:6379", "::1", "10.0.0.5", "head:6379")]
    [True, True, True, True, False, False]
    """
    host = address.partition(":")[0] if address.count(":") == 1 else address  # else it is an IPv6 address
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def alone() -> Iterator[None]:
    """Let a Ray that is started in the block listen on loopback alone, and ask for a token that nobody else knows.

    Ray's own, in ~/.ray/auth_token, is the same for all that a user starts, and is written for others to read. This one
    lies in a file for this user alone, which the processes of Ray are told the name of, and is gone with the block.
    """
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        path = Path(folder) / "token"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # for as long as this process lives
            file.write(secrets.token_hex(32))
            file.flush()
            try:
                with ray_for_itself(path), _on_loopback():
                    _read_again()
                    yield
            finally:
                _read_again()


def _sweep() -> None:
    """Remove tokens that nobody holds any more: of this user's processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*/token"):
        with suppress(OSError), open(path, "rb") as file:  # another user's, or gone meanwhile
            if time.time() - os.fstat(file.fileno()).st_mtime > _NEW_S:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let this process's Ray listen on loopback: a program may have imported it before the variable was set."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _read_again() -> None:
    """Make Ray forget which token and which mode it has read."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _resolve(address: str) -> str:
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except (ValueError, OSError) as error:
        raise TransportError(f"--ray-address auto: no Ray cluster was found ({error}); give its HOST:PORT") from error
    if found is None:
        raise TransportError("--ray-address auto: no Ray cluster was started here; start one, or give its HOST:PORT")
    return str(found)


def _open_channel(target: str) -> grpc.Channel:
    import grpc

    options = [("grpc.enable_http_proxy", 0)]
    if not ray_uses_tls():
        return grpc.insecure_channel(target, options=options)
    from ray._common.tls_utils import load_certs_from_env

    try:
        cert, key, ca = load_certs_from_env()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        raise UserInputError(f"RAY_USE_TLS is set, and Ray's certificates cannot be read: {error}") from error
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), options=options)


def _machines(answer: bytes) -> tuple[str, ...] | None:
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoReply  # type: ignore[attr-defined]

    nodes = GetAllNodeInfoReply.FromString(answer).node_info_list
    return tuple(node.node_manager_address for node in nodes) or None
