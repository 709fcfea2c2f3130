"""Certificates that are replaced while gateways and nodes run."""

import logging
import socket
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from certificates import GATEWAY, Authority, bundle, files, replace
from commands import wait_until
from federations import make_delta, make_federation

from coldfuse.errors import TransportError, UserInputError
from coldfuse.storage import LocalStore
from coldfuse.transport import channel
from coldfuse.transport.address import parse_address
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.peer import find_peer
from coldfuse.transport.server import GatewaySettings, serve_gateway
from coldfuse.trust.certs import Holder
from coldfuse.trust.following import Followed
from coldfuse.trust.tls import load

MIB = 1 << 20


@pytest.fixture
def federation(tmp_path):
    return make_federation(LocalStore(tmp_path / "store"))


@pytest.fixture
def one(tmp_path):
    return Authority(tmp_path / "one")


@pytest.fixture
def two(tmp_path):
    return Authority(tmp_path / "two")


class Caller:
    """A node that asks again and again, on connections of its own, until it is stopped; it keeps what went wrong."""

    def __init__(self, address, tls):
        self.troubles, self.failures, self.num_answers = [], [], 0
        self.client = GatewayClient(address, tls=tls, retry_s=5.0, on_trouble=self.troubles.append)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._over.is_set():
            try:
                self.client.status()
            except Exception as error:  # noqa: BLE001 - the test wants to see whatever it was
                self.failures.append(error)
                return
            self.num_answers += 1

    def wait(self):
        """Wait for some more answers."""
        before = self.num_answers
        wait_until(lambda: self.num_answers > before + 5 or self.failures, "answers", limit_s=20)
        assert self.failures == self.troubles == []

    def __enter__(self):
        self._thread.start()
        self.wait()
        return self

    def stop(self):
        """Ask no more, and find that nothing went wrong, or had to be tried again."""
        self._over.set()
        self._thread.join(20)
        assert self.failures == self.troubles == []

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(20)
        self.client.close()


def serve(federation, tls, listen="localhost:0"):
    return serve_gateway(federation, GatewaySettings(listen=listen, tls=tls))


def ask(address, tls):
    with GatewayClient(address, tls=tls, retry_s=1.0) as client:
        return client.status().name


def test_a_gateway_moves_to_another_authority_while_a_node_goes_on(federation, one, two, tmp_path):
    cert, trusted = one.folder / "gateway.pem", bundle(tmp_path / "trusted.pem", one)
    with serve(federation, files(cert=cert)) as gateway, Caller(gateway.address, files(ca=trusted)) as node:
        one.renew(GATEWAY)
        assert ask(gateway.address, files(ca=one.ca)) == "tiny"
        bundle(trusted, one, two)
        node.wait()
        replace(cert, by=two.folder / "gateway.pem")
        node.wait()
        with pytest.raises(TransportError, match="of no authority that is known here"):
            ask(gateway.address, files(ca=one.ca))
        bundle(trusted, two)
        node.wait()  # on a new connection: its authorities are others
        node.stop()


def test_a_node_moves_to_another_authority_in_the_middle_of_an_upload(federation, one, two, tmp_path):
    asked = bundle(tmp_path / "asked.pem", one)
    cert, known = one.client("ada"), one.ca
    tls = files(cert=one.folder / "gateway.pem", ca=asked)
    delta, renewed = make_delta([4 * MIB]), []

    def read_range(start, count):
        if not renewed:
            renewed.append(True)
            replace(cert, by=two.client("ada"))
            node.wait()  # meanwhile, on new connections
        return delta.read_range(start, count)

    with serve(federation, tls) as gateway, Caller(gateway.address, files(cert=cert, ca=known)) as node:
        bundle(asked, one, two)
        assert node.client.upload(delta.blob, read_range).sent_bytes == 4 * MIB
        port = int(gateway.address.rpartition(":")[2])
        wait_until(lambda: connections_to(port) <= 2, "the end of the old connections")
        bundle(asked, two)
        with pytest.raises(TransportError, match="does not accept your certificate"):
            ask(gateway.address, files(cert=one.client("bob"), ca=known))
        node.stop()
        gateway.stop(grace_s=0.0)
        with serve(federation, tls, listen=gateway.address):
            assert ask(gateway.address, files(cert=cert, ca=known)) == "tiny"
            assert node.client.status().name == "tiny"
    assert renewed


def connections_to(port):
    found = psutil.Process().net_connections("tcp")
    return [each.status for each in found if each.raddr and each.raddr.port == port].count("ESTABLISHED")


def test_files_that_do_not_fit_yet_change_nothing_and_are_said_once(federation, one, two, tmp_path, caplog):
    served, own = one.folder / "gateway.pem", one.client("ada")
    tls = files(cert=served, ca=bundle(tmp_path / "asked.pem", one, two))
    ways = {
        "half a certificate": lambda path: path.write_bytes(path.read_bytes()[:200]),
        "another's certificate": lambda path: path.write_bytes((two.folder / "gateway.pem").read_bytes()),
        "no certificate": lambda path: path.unlink(),
        "one that has ended": lambda path: replace(path, by=two.client("old", left=timedelta(seconds=-5))),
    }
    with serve(federation, tls) as gateway, Caller(gateway.address, files(cert=own, ca=one.ca)) as node:
        for path in (served, own):
            for what, spoil in ways.items():
                caplog.clear()
                spoil(path)
                node.wait()
                assert ask(gateway.address, files(cert=one.client("bob"), ca=one.ca)) == "tiny"
                said = [each.getMessage() for each in caplog.records if "goes on with the certificate" in each.message]
                assert said, what
                assert len(said) == len(set(said)) < 4  # who looked in the middle of it has one more word to say
                assert all(str(path) in each for each in said)
        replace(served, by=two.folder / "gateway.pem")
        assert ask(gateway.address, files(cert=two.client("cy"), ca=two.ca)) == "tiny"


@pytest.mark.parametrize("side", ["gateway", "node"])
def test_nothing_starts_with_a_certificate_that_has_ended_or_not_begun(federation, one, side):
    def start(tls):
        return serve(federation, tls) if side == "gateway" else GatewayClient("localhost:1", tls=tls)

    for left, sentence in ((timedelta(seconds=-5), "expired on"), (timedelta(days=91), "clock")):
        cert = one.renew(GATEWAY if side == "gateway" else Holder(name="ada"), left=left)
        with pytest.raises(UserInputError, match=rf"\.pem: .*{sentence}") as caught:
            start(files(cert=cert, ca=one.ca))
        assert "\n" not in str(caught.value)


def test_a_certificate_that_ends_meanwhile_is_what_the_error_speaks_of(federation, one):
    soon = timedelta(seconds=3)
    with ExitStack() as stack:
        strict = stack.enter_context(serve(federation, files(cert=one.folder / "gateway.pem", ca=one.ca)))
        served = one.renew(Holder(name="gw", hosts=("localhost",)), left=soon)
        ended = stack.enter_context(serve(federation, files(cert=served)))
        own = files(cert=one.client("ada", left=soon), ca=one.ca)
        ending = datetime.now(UTC) + soon
        ada = stack.enter_context(GatewayClient(strict.address, tls=own, retry_s=20.0))
        bob = stack.enter_context(GatewayClient(ended.address, tls=files(ca=one.ca), retry_s=20.0))
        wait_until(lambda: datetime.now(UTC) > ending + timedelta(seconds=1), "the end of two certificates")
        with pytest.raises(TransportError, match=r"client-ada\.pem: expired on .*coldfuse certs"):
            ada.status()
        with pytest.raises(TransportError, match=r"its certificate has expired; its operator has to renew it"):
            bob.status()


def test_the_end_of_a_certificate_is_said_before_it_comes_once_a_day(one, caplog):
    clock = [time.time()]
    day_s = 86400.0
    followed = Followed(files(cert=one.folder / "gateway.pem"), whose="the gateway", clock=lambda: clock[0])
    said = []
    for day in range(95):
        clock[0] += day_s
        for _ in range(3):
            followed.newest()
        said += [(day, each.getMessage()) for each in caplog.records]
        caplog.clear()
    assert [day for day, _ in said] == list(range(59, 95))
    assert "expires on" in said[0][1]
    assert "in 29 days" in said[0][1]
    assert "expired on" in said[-1][1]


def test_a_new_certificate_is_spoken_of_no_more(one, caplog):
    clock = [time.time() + 80 * 86400.0]
    cert = one.folder / "gateway.pem"
    followed = Followed(files(cert=cert), whose="the gateway", clock=lambda: clock[0])
    assert "expires on" in caplog.text
    caplog.clear()
    one.renew(GATEWAY, left=timedelta(days=170))
    before = followed.newest()
    clock[0] += 2 * 86400.0
    assert followed.newest() is before
    assert caplog.text == ""


def test_connections_that_last_are_no_reason_to_say_nothing(one, caplog):
    clock = [time.time()]
    followed = Followed(files(cert=one.folder / "gateway.pem"), whose="the gateway", clock=lambda: clock[0])
    with followed.watched(every_s=0.01):
        assert caplog.text == ""
        clock[0] += 80 * 86400.0
        wait_until(lambda: "the certificate of the gateway ends" in caplog.text, "a word on the end of the certificate")


def test_whose_authority_is_no_longer_taken_is_out_also_where_its_connection_never_ends(
    federation, one, two, tmp_path, monkeypatch
):
    monkeypatch.setattr(channel, "CERTIFIED_MS", 500)
    asked = bundle(tmp_path / "asked.pem", one, two)
    tls = files(cert=one.folder / "gateway.pem", ca=asked)
    with (
        serve(federation, tls) as gateway,
        Caller(gateway.address, files(cert=one.client("ada"), ca=one.ca)) as stays,
        Caller(gateway.address, files(cert=two.client("bob"), ca=one.ca)) as goes,
    ):
        bundle(asked, one)
        wait_until(lambda: goes.failures, "the end of a caller", limit_s=30)
        assert "does not accept your certificate" in str(goes.failures[0])
        before = stays.num_answers
        wait_until(lambda: stays.num_answers > before + 5, "answers to who may stay")
        assert stays.failures == []  # its connections ended as often; a call that began just then was tried again


def test_of_several_authorities_one_may_have_ended(one, two, tmp_path):
    trusted = bundle(tmp_path / "trusted.pem", one, two)
    now = datetime.now(UTC)
    assert load(files(ca=trusted), now).validity is None
    with pytest.raises(UserInputError, match=r"trusted\.pem: expired on"):
        load(files(ca=trusted), now + timedelta(days=5 * 365 + 1))


def test_no_key_is_in_what_is_said_of_certificates(one, caplog):
    caplog.set_level(logging.DEBUG)
    cert = one.folder / "gateway.pem"
    followed = Followed(files(cert=cert), whose="the gateway")
    one.renew(GATEWAY)
    loaded = followed.newest()
    secret = cert.with_suffix(".key").read_text().splitlines()[1]
    assert secret.encode() in loaded.key
    assert secret not in f"{loaded!r} {followed!r} {vars(followed)!r} {caplog.text}"


@pytest.mark.parametrize("host", ["192.0.2.9", "gateway.example.org", "[2001:db8::7]", "127.0.0.1.example.org"])
def test_who_is_not_loopback_is_spoken_to_with_tls_unless_plain_text_was_asked_for(host):
    for insecure in (False, True):
        assert find_peer(parse_address(f"{host}:1"), tls=None, insecure=insecure).is_plain is insecure
    assert find_peer(parse_address("[::1]:1"), tls=None, insecure=False).is_plain


def test_plain_text_from_another_address_of_this_machine_is_refused_unless_asked_for(federation):
    found = [
        each.address for every in psutil.net_if_addrs().values() for each in every if each.family == socket.AF_INET
    ]
    own = next((each for each in found if not each.startswith("127.")), None)
    if own is None:
        pytest.skip("this machine has no address but loopback")
    with serve_gateway(federation, GatewaySettings(listen=f"{own}:0", insecure=True)) as gateway:
        with (
            GatewayClient(gateway.address, retry_s=1.0) as client,
            pytest.raises(TransportError, match="speaks no TLS"),
        ):
            client.status()
        with GatewayClient(gateway.address, insecure=True) as client:
            assert client.status().name == "tiny"
