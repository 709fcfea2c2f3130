"""A store and an address both lead to a gateway."""

import subprocess
import sys
from pathlib import Path

import pytest
from federations import make_federation

from coldfuse.errors import FederationError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.connect import connect


def test_a_store_is_asked_directly(tmp_path: Path) -> None:
    make_federation(LocalStore(tmp_path / "store"))
    with connect(str(tmp_path / "store")) as gateway:
        assert isinstance(gateway, StoreGateway)
        assert (gateway.status().name, gateway.release().release) == ("tiny", 0)


def test_an_address_is_called_when_it_is_needed() -> None:
    with connect("127.0.0.1:1") as gateway:
        assert isinstance(gateway, GatewayClient)
        assert gateway.address == "127.0.0.1:1"


def test_what_is_neither_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="holds no federation"):
        connect(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(UserInputError, match=r"expected a folder for the store, but .*file is a file"):
        connect(str(tmp_path / "file" / "store"))
    with pytest.raises(UserInputError, match="expected a folder or s3://"):
        connect("gs://bucket/federation")


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:7700", "127.0.0.1:70000", "::1:7700", "localhost", "127.0.0.1", "gw:1/x"]
)
def test_what_was_meant_as_an_address_is_not_taken_for_a_folder(text: str) -> None:
    with pytest.raises(UserInputError, match=r"neither an address nor a store: expected HOST:PORT"):
        connect(text)


def test_a_store_needs_no_grpc() -> None:
    program = "import sys, coldfuse.transport.connect; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
