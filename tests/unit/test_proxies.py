"""When a proxy of the environment is used: never for this machine."""

import pytest

from coldfuse.errors import UserInputError
from coldfuse.proxies import Proxy, grpc_proxy, is_this_machine
from coldfuse.transport.address import parse_address
from coldfuse.transport.peer import find_peer
from coldfuse.trust.tls import TlsFiles

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST", "0.0.0.0"]
)
@pytest.mark.parametrize("variable", VARIABLES[:3])
def test_loopback_is_never_reached_through_a_proxy(environment, host, variable):
    environment(**{variable: "http://192.0.2.1:3128", "no_proxy": "example.org"})
    assert grpc_proxy(host) is None
    assert grpc_proxy("192.0.2.9") == Proxy(variable, "192.0.2.1:3128")


def test_a_name_that_leads_back_here_is_this_machine(monkeypatch):
    def answers(*places):
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (place, 0)) for place in places])

    answers("127.0.1.1", "::1")
    assert is_this_machine("my-laptop")
    answers("127.0.1.1", "192.0.2.5")
    assert not is_this_machine("my-laptop")


@pytest.mark.parametrize(
    "exceptions",
    ["*", "192.0.2.9", "10.0.0.1, 192.0.2.0/24", "192.0.2.9,example.org"],
)
def test_no_proxy_names_hosts_and_ranges(environment, exceptions):
    environment(http_proxy="http://proxy:3128", no_proxy=exceptions)
    assert grpc_proxy("192.0.2.9") is None
    assert grpc_proxy("198.51.100.1") is None if exceptions == "*" else grpc_proxy("198.51.100.1") is not None


@pytest.mark.parametrize("exceptions", ["gw.example.org", "Example.ORG", ".example.org", "a.b, *.example.org"])
def test_no_proxy_names_domains(environment, exceptions):
    environment(http_proxy="http://proxy:3128", no_proxy=exceptions)
    assert grpc_proxy("gw.example.org") is None
    assert grpc_proxy("notexample.org.invalid") is not None


@pytest.mark.parametrize("url", ["nonsense", "socks5://proxy:1080", "http://", "http://proxy:high"])
def test_what_grpc_cannot_use_is_no_proxy(environment, url):
    environment(http_proxy=url)
    assert grpc_proxy("192.0.2.9") is None


def test_plain_text_does_not_go_through_a_proxy(environment):
    environment(https_proxy="http://me:secret@proxy:3128")
    with pytest.raises(
        UserInputError, match=r"plain text through the proxy proxy:3128 \(of the variable https_proxy\)"
    ) as caught:
        find_peer(parse_address("192.0.2.9:7700"), tls=None, insecure=True)
    assert "secret" not in str(caught.value)
    peer = find_peer(parse_address("192.0.2.9:7700"), tls=TlsFiles(), insecure=False)
    assert (peer.is_plain, peer.proxy) == (False, Proxy("https_proxy", "proxy:3128"))
