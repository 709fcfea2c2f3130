"""Every error crosses the wire and comes back as what it was."""

import inspect

import grpc
import pytest

from coldfuse import errors
from coldfuse.proxies import Proxy
from coldfuse.transport.peer import Peer
from coldfuse.transport.status import CODES, ERROR_KEY, UnknownCallError, from_rpc_error, is_transient, to_status
from coldfuse.transport.text import MAX_CHARS


class FakeRpcError(grpc.RpcError):
    def __init__(self, code, details, kind=None):
        self._code, self._details = code, details
        self._metadata = () if kind is None else ((ERROR_KEY, kind),)

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._metadata


PEER, TLS = Peer("host:1"), Peer("host:1", is_plain=False)
PROXIED = Peer("host:1", is_plain=False, proxy=Proxy("http_proxy", "proxy:1"))
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ColdfuseError)]


def test_every_error_comes_back_as_itself_with_its_sentence():
    for kind in ALL:
        code, sentence, name = to_status(kind("the sentence: δ"))
        back = from_rpc_error(FakeRpcError(code, sentence, name), PEER)
        assert (type(back), str(back)) == (kind, "the sentence: δ")
        assert code is not grpc.StatusCode.OK


def test_the_table_names_every_error():
    assert set(CODES) == set(ALL)


def test_a_subclass_that_only_the_server_knows_travels_as_its_parent():
    class Narrower(errors.RoundClosedError):
        pass

    assert to_status(Narrower("x"))[2] == "RoundClosedError"


def test_an_unexpected_error_tells_a_number_and_no_secret(caplog):
    code, sentence, name = to_status(ZeroDivisionError("secret"))
    assert (code, name) == (grpc.StatusCode.INTERNAL, "TransportError")
    assert "secret" not in sentence
    incident = caplog.records[0].args[0]
    assert incident in sentence
    assert caplog.records[0].exc_info is not None


def test_a_long_sentence_is_cut_before_it_breaks_the_connection():
    _, sentence, _ = to_status(errors.CodecError("δ" * 100_000))
    assert len(sentence) == MAX_CHARS


def test_what_no_gateway_said_is_a_transport_error():
    for code in grpc.StatusCode:
        back = from_rpc_error(FakeRpcError(code, "the proxy is asleep"), PEER)
        expected = UnknownCallError if code is grpc.StatusCode.UNIMPLEMENTED else errors.TransportError
        assert type(back) is expected
        assert "host:1" in str(back)
    cut = from_rpc_error(FakeRpcError(grpc.StatusCode.CANCELLED, "CANCELLED"), PEER)
    assert "it has its hands full, or is being stopped" in str(cut)
    too_long = FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)")
    assert "do both run the same version?" in str(from_rpc_error(too_long, PEER))


@pytest.mark.parametrize(
    ("details", "peer", "advice"),
    [
        ("connect: Connection refused", PEER, "nobody listens there: is the gateway running"),
        ("errors resolving x:1: Domain name not found", PEER, "no such host"),
        ("connection attempt timed out", PEER, "firewall"),
        ("Socket closed", PEER, "--tls-ca"),
        ("Socket closed", TLS, "--tls-cert"),
        ("CERTIFICATE_VERIFY_FAILED", TLS, "--tls-ca"),
        ("Hostname Verification Check failed", TLS, "for another name"),
        ("WRONG_VERSION_NUMBER", TLS, "speaks no TLS"),
        ("Connection refused", PROXIED, "the proxy proxy:1 (of the variable http_proxy)"),
        ("what nobody has seen before", PEER, "is the gateway running, and do both ends agree on TLS?"),
    ],
)
def test_a_gateway_out_of_reach_comes_with_what_to_do(details, peer, advice):
    assert advice in str(from_rpc_error(FakeRpcError(grpc.StatusCode.UNAVAILABLE, details), peer))


def test_an_error_of_a_newer_gateway_is_a_transport_error_with_its_sentence():
    back = from_rpc_error(FakeRpcError(grpc.StatusCode.UNKNOWN, "the sentence", "ErrorOfTomorrow"), PEER)
    assert type(back) is errors.TransportError
    assert str(back) == "the sentence"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (FakeRpcError(grpc.StatusCode.UNAVAILABLE, "connection refused"), True),
        (FakeRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, ""), True),
        (FakeRpcError(grpc.StatusCode.INTERNAL, "Received RST_STREAM"), True),
        (FakeRpcError(grpc.StatusCode.UNAVAILABLE, "the store is down", "StorageError"), True),
        (FakeRpcError(grpc.StatusCode.UNAVAILABLE, "nothing came for 300 s", "TransportError"), True),
        (FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "as many uploads as it can", "GatewayBusyError"), True),
        (FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!"), True),
        (FakeRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)"), False),
        (FakeRpcError(grpc.StatusCode.FAILED_PRECONDITION, "too late", "RoundClosedError"), False),
        (FakeRpcError(grpc.StatusCode.INTERNAL, "an incident", "TransportError"), False),
        (FakeRpcError(grpc.StatusCode.UNIMPLEMENTED, "unknown service"), False),
        (FakeRpcError(grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"), False),
        (ValueError("no call at all"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error, transient):
    assert is_transient(error) is transient
