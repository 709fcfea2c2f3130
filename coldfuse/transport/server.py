"""Starting and stopping a gateway."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coldfuse.errors import TransportError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.housekeeping import Housekeeper
from coldfuse.gateway.intake import Intake
from coldfuse.registry.federation import Federation
from coldfuse.registry.members import count_keys
from coldfuse.transport.address import Address, parse_address
from coldfuse.transport.admission import Admission
from coldfuse.transport.allocator import keep_freed_memory
from coldfuse.transport.askers import Askers
from coldfuse.transport.calls import House
from coldfuse.transport.channel import server_credentials, server_options
from coldfuse.transport.connections import Doorkeeper
from coldfuse.transport.frames import SERVICE
from coldfuse.transport.limits import DEFAULT_MEMORY_BYTES, limits_within
from coldfuse.transport.roll import Roll
from coldfuse.transport.rooms import Rooms
from coldfuse.transport.servicer import Servicer
from coldfuse.trust.following import Followed, follow
from coldfuse.trust.tls import TlsFiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """How a gateway listens, and how much it does at a time."""

    listen: str = "127.0.0.1:0"
    """Host and port to listen on; port 0: the system picks one."""
    tls: TlsFiles | None = None
    """Certificate and key of the gateway; with a CA, callers need a certificate of it."""
    insecure: bool = False
    """Permission for plain text on addresses that other machines can reach."""
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    """What the gateway's process may take; transfers, calls and connections are limited accordingly (see `limits`)."""
    max_workers: int = 16
    """Number of threads that wait for the store, and of those that write and read chunks."""
    max_streams: int | None = None
    """Maximum number of uploads and downloads at a time; None: as many as fit into the memory."""
    max_uncommitted_bytes: int | None = None
    """Maximum number of bytes in the store that were sent and not committed, by all gateways; None: any number."""
    show_names: bool = False
    """Whether the status names those who contributed: to members, or to whoever asks where there is no root."""
    why_not: Callable[[], str | None] | None = None
    """Says why the store takes nothing at present, or None; asked at the start, and again until it does."""
    stall_s: float = 3.0
    """Seconds without a byte after which a transfer gives way to one that waits."""
    idle_s: float = 300.0
    """Seconds without a byte after which a transfer is dropped although nobody waits."""
    tune_allocator: bool = True
    """Setting of this process's malloc for streams (see `allocator`); False for a guest in somebody else's process."""


class RunningGateway:
    """A gateway that answers. It has threads of its own; stop it, or leave it as a context manager."""

    def __init__(
        self,
        federation: Federation,
        settings: GatewaySettings,
        credentials: grpc.ServerCredentials | None,
        tls: Followed | None = None,
    ) -> None:
        """Start; returns when the port is open. The certificates are those that the credentials go by."""
        asked = parse_address(settings.listen)
        self._federation = federation
        self._settings = settings
        self._tls = tls
        self._asks_certificates = tls is not None and tls.files.ca is not None
        self._stopping = asyncio.Event()
        self._grace_s = 0.0
        started: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(asked, credentials, started), name="gateway", daemon=True
        )
        self._thread.start()
        self.address = Address(asked.host, started.result()).text
        """Where it listens, with the port that the system picked."""

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new calls, give the running ones `grace_s` seconds, and end. Stopping twice is harmless."""
        if self._thread.is_alive():
            self._grace_s = grace_s
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the gateway has ended; False if it still runs after `timeout_s`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __enter__(self) -> RunningGateway:
        """Return the gateway itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop at once."""
        self.stop(grace_s=0.0)

    def _run(self, asked: Address, credentials: grpc.ServerCredentials | None, started: Future[int]) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # leaving it cancels calls that still run
                runner.run(self._serve(asked, credentials, started))
        except BaseException as error:  # this thread's outermost frame: whoever waits for the start must hear of it
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, asked: Address, credentials: grpc.ServerCredentials | None, started: Future[int]) -> None:
        settings, limits = self._settings, limits_within(self._settings.memory_bytes)
        with ExitStack() as pools:  # leaving waits for writes that were cancelled halfway, so that none is left behind
            gateway = pools.enter_context(StoreGateway(self._federation, num_threads=settings.max_workers))
            intake = Intake(
                gateway, self._federation,
                max_uncommitted_bytes=settings.max_uncommitted_bytes, why_not=settings.why_not,
            )  # fmt: skip
            pools.enter_context(intake)
            pools.enter_context(Housekeeper(intake))
            pools.enter_context(nullcontext() if self._tls is None else self._tls.watched())
            rooms = Rooms(
                limits, max_streams=settings.max_streams, stall_s=settings.stall_s, idle_s=settings.idle_s,
                num_threads=settings.max_workers, has_members=self._federation.trust is not None,
            )  # fmt: skip
            pools.callback(rooms.close)
            house = House(rooms=rooms, askers=_askers_of(self._federation))
            pools.callback(house.askers.close)
            server = grpc.aio.server(
                options=server_options(
                    max_connections=limits.max_connections, max_calls=limits.max_calls,
                    asks_certificates=self._asks_certificates,
                ),
                maximum_concurrent_rpcs=limits.max_calls,
                interceptors=(Admission(house),),
            )  # fmt: skip
            servicer = Servicer(gateway, intake, house, show_names=settings.show_names)
            server.add_generic_rpc_handlers((servicer.handler(),))
            healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
            health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
            reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
            port = _bind(server, asked, credentials)
            await server.start()
            doorkeeper = Doorkeeper(port, rooms.traffic, max_connections=limits.max_connections)
            doorkeeper.start()
            pools.callback(doorkeeper.close)
            for name in ("", SERVICE):
                await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
            started.set_result(port)
            await self._stopping.wait()
            await healthy.enter_graceful_shutdown()
            await server.stop(self._grace_s)


def _askers_of(federation: Federation) -> Askers:
    """Return what finds out who asks."""
    roll = Roll(
        federation.trust, count_keys=lambda: count_keys(federation.store),
        find_view=lambda: federation.reopened().trust, now_s=federation.now_s,
    )  # fmt: skip
    return Askers(roll)


def serve_gateway(federation: Federation, settings: GatewaySettings | None = None) -> RunningGateway:
    """Start a gateway for the federation in threads of this process, and return when it listens.

    Args:
        federation: The federation, opened.
        settings: How it listens; None: on a free port of this machine.

    Raises:
        UserInputError: The address is none of this machine, needs TLS, or the certificates cannot be used.
        TransportError: The address is taken.
    """
    settings = settings or GatewaySettings()
    address = parse_address(settings.listen)
    tls = follow(settings.tls, whose="the gateway")
    credentials = server_credentials(address, tls=tls, insecure=settings.insecure)
    _require_free(address)
    if settings.tune_allocator:
        keep_freed_memory()
    gateway = RunningGateway(federation, settings, credentials, tls)
    logger.info("gateway of %s listens on %s", federation.settings.name, gateway.address)
    return gateway


def _require_free(address: Address) -> None:
    """Find out what is wrong with an address by trying it: gRPC would write lines of its own to stderr."""
    try:
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise UserInputError(
            f"{address.text}: no such host ({error.strerror}); listen on a name of this machine"
        ) from error
    family, kind, protocol, _, place = infos[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(place)
            trial.listen(1)
        except OSError as error:
            raise _cannot_listen(address, error.strerror or str(error)) from error


def _bind(server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(address.text)
        return server.add_secure_port(address.text, credentials)
    except RuntimeError as error:  # somebody was faster, between the trial and now
        raise _cannot_listen(address, "the port was taken a moment ago") from error


def _cannot_listen(address: Address, reason: str) -> TransportError:
    return TransportError(
        f"{address.text}: cannot listen here ({reason}); stop what uses the port or choose another one, 0 for any"
    )
