"""How a gateway listens: its port, its services, and TLS."""

import socket
import threading
import time

import grpc
import pytest
import trustme
from federations import make_delta, make_federation, make_manifest, open_round
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from coldfuse.errors import ContributionRejectedError, TransportError, UserInputError
from coldfuse.gateway import Decision
from coldfuse.storage import LocalStore
from coldfuse.transport.address import parse_address
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.handshake import find_disagreement
from coldfuse.transport.server import SERVICE, GatewaySettings, serve_gateway
from coldfuse.trust.tls import TlsFiles

MIB = 1 << 20


@pytest.fixture
def federation(tmp_path):
    return make_federation(LocalStore(tmp_path / "store"))


@pytest.fixture
def gateway(federation):
    with serve_gateway(federation) as gateway:
        yield gateway


def test_health_and_reflection_answer(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert SERVICE in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_two_gateways_on_one_port_are_an_error(gateway, federation):
    with pytest.raises(TransportError, match="cannot listen here") as caught:
        serve_gateway(federation, GatewaySettings(listen=gateway.address))
    assert "\n" not in str(caught.value)


def test_a_stopped_gateway_frees_its_port(federation):
    first = serve_gateway(federation)
    assert not first.wait(0)
    first.stop()
    first.stop()
    assert first.wait(0)
    with serve_gateway(federation, GatewaySettings(listen=first.address)) as second:
        assert second.address == first.address


def test_a_gateway_that_is_not_there_is_said_to_be_so(federation):
    with serve_gateway(federation) as gateway:
        pass
    with (
        GatewayClient(gateway.address, retry_s=0.5) as client,
        pytest.raises(TransportError, match="is the gateway"),
    ):
        client.status()


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_hears_nothing_of_what_stays_on_this_machine(gateway, monkeypatch, variable):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.0)
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        with GatewayClient(gateway.address, retry_s=0.0) as client:
            assert client.status().name == "tiny"
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_host_that_takes_the_connection_and_says_nothing_is_waited_for_as_long_as_was_asked():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        with GatewayClient(address, retry_s=0.1) as client, pytest.raises(TransportError, match="cannot be reached"):
            client.status()
        assert time.monotonic() - began < 15  # gRPC by itself waits for 20 s


def test_each_failure_before_another_try_is_told(federation):
    with serve_gateway(federation) as gateway:
        pass
    troubles = []
    with (
        GatewayClient(gateway.address, retry_s=0.5, on_trouble=troubles.append) as client,
        pytest.raises(TransportError),
    ):
        client.status()
    assert "nobody listens there" in str(troubles[0])


def test_plain_text_needs_a_word_where_others_can_listen(federation):
    with pytest.raises(UserInputError, match=r"needs TLS.*--tls-cert and --tls-key.*--insecure"):
        serve_gateway(federation, GatewaySettings(listen="0.0.0.0:0"))
    with serve_gateway(federation, GatewaySettings(listen="0.0.0.0:0", insecure=True)) as gateway:
        port = gateway.address.rpartition(":")[2]
        with GatewayClient(f"127.0.0.1:{port}") as client:
            assert client.status().name == "tiny"


@pytest.fixture
def certificates(tmp_path):
    """Certificates of one authority for gateway and node, and another authority."""
    ours, theirs = trustme.CA(), trustme.CA()
    for name, authority in {"ca": ours, "other-ca": theirs}.items():
        authority.cert_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    for name, authority in {"gateway": ours, "node": ours, "stranger": theirs}.items():
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        leaf.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))

    leaf = ours.issue_cert("ada")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "ada.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "ada.key"))

    def files(name=None, *, ca=None):
        cert, key = (tmp_path / f"{name}.pem", tmp_path / f"{name}.key") if name else (None, None)
        return TlsFiles(ca=tmp_path / f"{ca}.pem" if ca else None, cert=cert, key=key)

    return files


def test_tls_with_the_right_authority(federation, certificates):
    with serve_gateway(federation, GatewaySettings(listen="localhost:0", tls=certificates("gateway"))) as gateway:
        with GatewayClient(gateway.address, tls=certificates(ca="ca")) as client:
            assert client.status().name == "tiny"
            delta = make_delta([2 * MIB])
            assert client.upload(delta.blob, delta.read_range).sent_bytes == 2 * MIB
        for wrong in (certificates(ca="other-ca"), None):
            with GatewayClient(gateway.address, tls=wrong, retry_s=1.0) as client, pytest.raises(TransportError):
                client.status()


def test_mutual_tls_lets_in_only_certificates_of_the_authority(federation, certificates):
    settings = GatewaySettings(listen="localhost:0", tls=certificates("gateway", ca="ca"))
    with serve_gateway(federation, settings) as gateway:
        with GatewayClient(gateway.address, tls=certificates("node", ca="ca")) as client:
            assert client.status().name == "tiny"
        for wrong in (certificates("stranger", ca="ca"), certificates(ca="ca")):
            with GatewayClient(gateway.address, tls=wrong, retry_s=1.0) as client, pytest.raises(TransportError):
                client.status()


@pytest.mark.parametrize(
    ("theirs", "ours", "sentence"),
    [
        ({"ca": "ca"}, {"ca": "ca"}, "asks for your certificate"),
        ({"ca": "ca"}, {"name": "stranger", "ca": "ca"}, "does not accept your certificate"),
        ({}, None, "speaks TLS; give its authority"),
        ({"ca": "ca"}, None, "speaks TLS; give its authority"),
        (None, {"ca": "ca"}, "speaks no TLS"),
        ({}, {"ca": "other-ca"}, "of no authority that is known here"),
    ],
)
def test_ends_that_disagree_on_tls_hear_it_with_their_first_try(federation, certificates, theirs, ours, sentence):
    tls = None if theirs is None else certificates("gateway", **theirs)
    troubles = []
    with (
        serve_gateway(federation, GatewaySettings(listen="localhost:0", tls=tls)) as gateway,
        GatewayClient(
            gateway.address,
            tls=None if ours is None else certificates(**ours),
            retry_s=60.0,
            on_trouble=troubles.append,
        ) as client,
        pytest.raises(TransportError, match=sentence) as caught,
    ):
        client.status()
    assert "\n" not in str(caught.value)
    assert troubles == []  # nothing was tried again


def test_a_gateway_that_ends_is_not_taken_for_one_that_disagrees(certificates):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(3)], daemon=True)
        thread.start()
        address = parse_address(f"127.0.0.1:{listener.getsockname()[1]}")
        for tls in (None, certificates("node", ca="ca")):
            assert find_disagreement(address, is_plain=tls is None, tls=tls, proxy=None) is None
    thread.join(10)


def test_one_answer_in_plain_text_is_not_the_last_word_on_what_a_gateway_speaks(federation, certificates):
    """As where another program had the gateway's port until a moment ago."""
    tls, gateways, troubles = certificates("gateway", ca="ca"), [], []
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"localhost:{listener.getsockname()[1]}"

    def give_way():
        sock, _ = listener.accept()
        listener.close()
        gateways.append(serve_gateway(federation, GatewaySettings(listen=place, tls=tls)))
        with sock:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=give_way, daemon=True)
    thread.start()
    with GatewayClient(place, tls=certificates("node", ca="ca"), retry_s=60.0, on_trouble=troubles.append) as client:
        assert client.status().name == "tiny"
    thread.join(10)
    gateways[0].stop()
    assert troubles  # gRPC says the same of further tries, until it connects again
    assert all("it speaks no TLS" in str(each) for each in troubles)


def test_a_certificate_commits_under_its_own_names_alone(federation, certificates):
    open_round(federation)
    settings = GatewaySettings(listen="localhost:0", tls=certificates("gateway", ca="ca"))
    delta = make_delta([10])
    with (
        serve_gateway(federation, settings) as gateway,
        GatewayClient(gateway.address, tls=certificates("ada", ca="ca")) as client,
    ):
        client.upload(delta.blob, delta.read_range)
        with pytest.raises(ContributionRejectedError, match=r"is for 'ada'.*is of 'bob'; contribute under a name"):
            client.commit(make_manifest(delta.blob, contributor="bob"))
        assert client.commit(make_manifest(delta.blob)).decision is Decision.PENDING
    assert [each.contributor for each in federation.journal(1).state().received.values()] == ["ada"]


def test_a_renewed_certificate_counts_from_the_next_connection_on(federation, certificates, tmp_path):
    tls = certificates("gateway")
    with serve_gateway(federation, GatewaySettings(listen="localhost:0", tls=tls)) as gateway:
        for authority, files in (("ca", None), ("ca", "node.pem"), ("other-ca", "stranger.pem")):
            if files is not None:
                tls.cert.write_bytes((tmp_path / files).read_bytes())
                if files == "stranger.pem":  # certificate and key fit together again
                    tls.key.write_bytes((tmp_path / "stranger.key").read_bytes())
            with GatewayClient(gateway.address, tls=certificates(ca=authority)) as client:
                assert client.status().name == "tiny"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (lambda f: TlsFiles(cert=f("gateway").cert), "a certificate is given without its key"),
        (lambda f: TlsFiles(cert=f("gateway").cert, key=f("node").key), "is not the key of the certificate"),
        (lambda f: TlsFiles(ca=f("gateway").key), "no certificate of an authority"),
        (lambda f: TlsFiles(ca=f("gateway").cert.with_name("gone.pem")), "cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_named_before_anything_is_sent(certificates, files, sentence):
    with pytest.raises(UserInputError, match=sentence):
        GatewayClient("localhost:1", tls=files(certificates))
