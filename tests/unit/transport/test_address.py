"""Addresses, and which of them need TLS."""

import pytest

from coldfuse.errors import UserInputError
from coldfuse.transport.address import Address, parse_address
from coldfuse.transport.channel import server_credentials


@pytest.mark.parametrize("text", ["localhost:1", "127.0.0.1:0", "[::1]:50051", "gateway.example.org:65535"])
def test_an_address_reads_as_it_is_written(text):
    assert parse_address(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:-1",
        "host:65536",
        "host:http",
        "::1:5",
        "[host]:1",
        "http://host:1",
        "a b:1",
        "host:²",
    ],
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(UserInputError, match=r"expected HOST:PORT, such as"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_this_machine_is_loopback(host, loopback):
    assert Address(host, 1).is_loopback is loopback


def test_plain_text_is_refused_where_other_machines_can_listen():
    with pytest.raises(UserInputError, match="needs TLS"):
        server_credentials(Address("0.0.0.0", 1), tls=None, insecure=False)
    assert server_credentials(Address("0.0.0.0", 1), tls=None, insecure=True) is None
    assert server_credentials(Address("127.0.0.1", 1), tls=None, insecure=False) is None
