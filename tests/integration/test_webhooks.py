"""Webhooks of a federation whose rounds go on, received by a real server on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import wait_until
from operators import Person
from tiny_nodes import MODEL, aggregating
from tiny_rounds import contribute, make_changes, make_federation

from coldfuse.core.federation import ChangeableSettings
from coldfuse.errors import TransportError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import roll_back
from coldfuse.registry.settings import read_settings, write_change
from coldfuse.storage import LocalStore
from coldfuse.webhooks import Outgoing, read_secrets
from coldfuse.webhooks.posting import is_public, post

SECRET = base64.b64encode(b"s" * 32).decode()
QUICK = Outgoing(
    secrets=read_secrets(f"whsec_{SECRET}", what="a test"),
    allows_private=True,
    first_pause_s=0.02,
    longest_pause_s=0.05,
)


@dataclass
class Receiver:
    """A server that keeps what it gets, once it has verified it as a receiver does."""

    answers: list[int] = field(default_factory=list)
    """Statuses of its next answers; 200 once they are over."""
    events: list[dict[str, object]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    num_asked: int = 0

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.num_asked += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.take(dict(self.headers.items()), body)
                self.send_response(status)
                if status == 302:
                    self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def take(self, headers: dict[str, str], body: bytes) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        signed = f"{lower['webhook-id']}.{lower['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.digest(b"s" * 32, signed, hashlib.sha256)).decode()
        assert lower["webhook-signature"] == f"v1,{wanted}"
        assert lower["content-type"].startswith("application/cloudevents+json")
        self.ids.append(lower["webhook-id"])
        self.events.append(json.loads(body))

    @property
    def types(self) -> list[object]:
        return [event["type"] for event in self.events]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path, MODEL)


def tell(federation: Federation, *urls: str) -> None:
    settings, etag = read_settings(federation.store)
    latest = federation.channel("latest").release
    write_change(
        federation.store, settings, etag, ChangeableSettings(webhooks=urls), by="a test", after_release=latest
    )  # fmt: skip


def is_ready(federation: Federation) -> bool:
    """Tell whether a round is open on the latest release: one on another is about to end."""
    state = federation.journal(federation.current_round()).state()
    return state.is_open and state.opened.base_release == federation.channel("latest").release  # type: ignore[union-attr]


def play(federation: Federation, release: int) -> None:
    """Contribute to the round that opens, and wait for its release."""
    wait_until(lambda: is_ready(federation), "an open round on the latest release")
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, 10 * release + seed))
    wait_until(lambda: federation.channel("latest").release == release, f"release {release}")


CLOSED, RELEASED, BACK = "coldfuse.round.closed", "coldfuse.release.published", "coldfuse.channel.rolledback"


def test_what_happens_is_told_in_order_signed_and_once(federation: Federation, receiver: Receiver) -> None:
    tell(federation, receiver.url)
    with aggregating(federation, outgoing=QUICK):
        play(federation, 1)
        play(federation, 2)
        wait_until(lambda: len(receiver.events) == 4, "two rounds to be told")
        roll_back(federation, 1, reason="worse", by="ada", signer=None)
        wait_until(lambda: len(receiver.events) == 5, "the step back to be told")
        play(federation, 3)
        wait_until(lambda: len(receiver.events) == 7, "the round after it")
    assert receiver.types == [CLOSED, RELEASED, CLOSED, RELEASED, BACK, CLOSED, RELEASED]
    assert len(set(receiver.ids)) == 7
    assert [event["subject"] for event in receiver.events] == [
        "rounds/1", "releases/1", "rounds/2", "releases/2", "channels/latest", "rounds/4", "releases/3",
    ]  # fmt: skip
    released = receiver.events[-1]["data"]
    assert (released["release"], released["parent"], released["contributions"]) == (3, 1, 2)  # type: ignore[index]


def test_what_was_before_is_not_told(federation: Federation, receiver: Receiver) -> None:
    with aggregating(federation, outgoing=QUICK):
        play(federation, 1)
    tell(federation, receiver.url)
    with aggregating(federation, outgoing=QUICK):
        play(federation, 2)
        wait_until(lambda: len(receiver.events) == 2, "the second round")
    assert [event["subject"] for event in receiver.events] == ["rounds/2", "releases/2"]


def test_a_receiver_that_fails_is_told_again_with_the_same_id(federation: Federation, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 429]
    tell(federation, receiver.url)
    with aggregating(federation, outgoing=QUICK):
        play(federation, 1)
        wait_until(lambda: len(receiver.events) == 2, "both to be told in the end")
    assert receiver.types == [CLOSED, RELEASED]
    assert receiver.num_asked == 5  # nobody has followed the redirect


def test_a_dead_receiver_holds_up_no_round_and_what_it_missed_is_told_after_a_restart(
    federation: Federation, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        slow = f"http://127.0.0.1:{silent.getsockname()[1]}/secret-path"
        receiver.answers = [503] * 1000
        tell(federation, slow, receiver.url)
        with aggregating(federation, outgoing=QUICK):
            for release in (1, 2, 3):
                play(federation, release)
    assert receiver.events == []
    assert federation.channel("latest").release == 3
    receiver.answers = []
    with aggregating(open_federation(LocalStore(federation.store.url)), outgoing=QUICK):
        wait_until(lambda: len(receiver.events) == 6, "what was missed")
    assert receiver.types == [CLOSED, RELEASED] * 3
    assert len(set(receiver.ids)) == 6
    assert "secret-path" not in caplog.text
    assert SECRET not in caplog.text


def test_a_receiver_that_is_removed_is_told_nothing_more(federation: Federation, receiver: Receiver) -> None:
    tell(federation, receiver.url)
    with aggregating(federation, outgoing=QUICK):
        play(federation, 1)
        wait_until(lambda: len(receiver.events) == 2, "the first round")
        tell(federation)
        play(federation, 2)
    assert len(receiver.events) == 2


def test_without_a_secret_nothing_is_told_and_that_is_said(
    federation: Federation, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    tell(federation, receiver.url)
    with caplog.at_level(logging.ERROR), aggregating(federation, outgoing=Outgoing(allows_private=True)):
        play(federation, 1)
    assert receiver.num_asked == 0
    assert caplog.text.count("no secret to sign by") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"])
def test_this_machine_and_private_networks_are_out_of_reach_unless_that_is_allowed(host: str) -> None:
    with pytest.raises(TransportError, match=r"private network|no address"):
        post(f"http://{host}:9/x", b"{}", {}, allows_private=False)


@pytest.mark.parametrize(
    "address",
    ["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::a00:1", "::127.0.0.1", "::ffff:10.0.0.1", "fec0::1",
     "2002:7f00:1::", "2001:0:7f00:1::1", "fd00::1", "fe80::1%eth0", "100.64.0.1"],
)  # fmt: skip
def test_no_detour_leads_into_a_private_network(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_the_internet_is_in_reach(address: str) -> None:
    assert is_public(address)


def test_where_one_address_of_a_host_is_dead_the_next_is_tried(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.2", "127.0.0.1")]
    real = socket.getaddrinfo

    def resolve(host: str, *given: object, **named: object) -> object:
        return found if host == "both.example" else real(host, *given, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = receiver.url.replace("127.0.0.1", "both.example")
    receiver.answers.append(204)
    assert post(url, b"{}", {}, allows_private=True) == 204
    with pytest.raises(TransportError, match="refused"):
        post("http://both.example:1/x", b"{}", {}, allows_private=True)


def test_an_answer_without_end_is_not_read(receiver: Receiver) -> None:
    del receiver
    sent = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pour() -> None:
            nonlocal sent
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
                try:
                    while sent < 1_000_000_000:
                        connection.sendall(b"x" * 65536)
                        sent += 65536
                except OSError:
                    pass

        thread = threading.Thread(target=pour)
        thread.start()
        status = post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, allows_private=True)
        thread.join()
    assert status == 200
    assert sent < 64 << 20


def test_an_answer_that_drips_is_cut(receiver: Receiver) -> None:
    del receiver
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not over.wait(0.01):
                    try:
                        connection.sendall(b"y")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(TransportError):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, allows_private=True, deadline_s=0.2)
        over.set()
        thread.join()


def test_by_command_addresses_are_added_and_removed_and_the_secret_is_nowhere(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL)
    store, person = federation.store.url, Person(tmp_path / "home")
    one, two = "https://example.org/1", "https://example.org/2"
    said = person.succeed("set", store, "--webhook", one, "--webhook", two, "--stable-after", "24h").stdout
    assert f"webhooks - → {one}, {two}" in said
    assert "stable-after - → 1d" in said
    assert person.succeed("set", store, "--no-webhook", one).exit_code == 0
    assert read_settings(federation.store)[0].webhooks == (two,)
    assert "is no webhook" in person.fail("set", store, "--no-webhook", one)
    assert "holds a name or password" in person.fail("set", store, "--webhook", "https://me:pw@example.org/")
    assert "at most 8" in person.fail("set", store, *(w for n in range(9) for w in ("--webhook", f"{one}{n}")))
    assert person.succeed("set", store, "--no-webhook", "all", "--stable-after", "off").exit_code == 0
    assert not read_settings(federation.store)[0].webhooks
    secret = tmp_path / "secret"
    secret.write_text("whsec_short")
    said = person.fail("aggregator", store, "--webhook-secret", secret)
    assert str(secret) in said
    assert "whsec_short" not in said
