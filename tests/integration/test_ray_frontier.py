"""Which Ray clusters an aggregator joins, and what a Ray of its own lets others do."""

import os
import posixpath
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from commands import wait_until

from coldfuse.config import prepare_ray
from coldfuse.engine.execution import ray_executor
from coldfuse.engine.ray_frontier import alone, look
from coldfuse.errors import TransportError, UserInputError

HEAD = Path(__file__).parents[1] / "ray_head.py"  # not imported: Ray reads its settings when it is
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def no_token_is_remembered() -> Iterator[None]:
    prepare_ray()
    yield
    from ray._raylet import AuthenticationTokenLoader

    AuthenticationTokenLoader.instance().reset_cache()


def own_address() -> str | None:
    """Return an address of this machine that others reach."""
    found = [each for every in psutil.net_if_addrs().values() for each in every]
    return next((e.address for e in found if e.family == socket.AF_INET and not e.address.startswith("127.")), None)


@contextmanager
def head(address: str, **variables: str) -> Iterator[str]:
    """Start a cluster, and end it with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    program = [sys.executable, str(HEAD), address]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(
        program, env={**environment, "RAY_USAGE_STATS_ENABLED": "0", **variables}, **pipes
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(30)


def test_a_cluster_that_others_reach_is_joined_only_if_it_asks_for_a_token(tmp_path, monkeypatch):
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with head(address, RAY_AUTH_MODE="disabled") as opened:
        assert look(opened).machines == (address,)
        for name in (opened, opened.replace(address, "127.0.0.1")):  # it listens there, too
            with pytest.raises(UserInputError, match=r"asks nobody for a token.*RAY_AUTH_MODE=token") as caught:
                join(name)
            assert "\n" not in str(caught.value)
    files = {name: tmp_path / name for name in ("right", "wrong", "none")}
    files["right"].write_text(TOKEN)
    files["wrong"].write_text(TOKEN[::-1])
    with head(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(files["right"])) as closed:
        assert look(closed).asks_token
        for name in ("wrong", "none"):
            use(monkeypatch, files[name])
            with pytest.raises(TransportError, match="does not take the token of this process") as caught:
                join(closed)
            assert TOKEN[:16] not in str(caught.value)
        use(monkeypatch, files["right"])
        assert join(closed) == [(0, "a/b"), (1, "a/c")]


def join(address: str) -> list[tuple[int, str]]:
    with ray_executor(address) as executor:
        return sorted(executor.run(posixpath.join, "a", ["b", "c"]))


def use(monkeypatch: pytest.MonkeyPatch, token: Path | None) -> None:
    """Give this process a token, as its environment would."""
    from ray._raylet import AuthenticationTokenLoader

    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    if token is None:
        monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    else:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    AuthenticationTokenLoader.instance().reset_cache()


def test_who_answers_and_is_no_cluster_is_not_taken_for_one():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.close()
        with pytest.raises(TransportError, match="does not answer as a Ray cluster does"):
            look(address)


def test_a_local_ray_listens_on_loopback_and_asks_for_a_token_that_nobody_sees(monkeypatch):
    from ray._private import ray_constants

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)  # as where a program has imported Ray before
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)  # of another cluster
    left = leave_a_token()
    before = set(psutil.Process().children(recursive=True))
    with ray_executor(None, num_cpus=1) as executor:
        import ray

        assert sorted(executor.run(posixpath.join, "a", ["b", "c"])) == [(0, "a/b"), (1, "a/c")]
        path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        os.utime(path, times=(0.0, 0.0))
        with alone():  # whoever starts another one leaves it where it is
            assert path.exists()
        token = path.read_text()
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
        family = [psutil.Process(), *set(psutil.Process().children(recursive=True)) - before]
        places = {each.laddr.ip for one in family for each in one.net_connections() if each.status == "LISTEN"}
        assert places <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert look(ray.get_runtime_context().gcs_address).asks_token
        seen = [text for one in family[1:] for text in (*one.cmdline(), *one.environ().values())]
        assert len(seen) > 50
        logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
        seen += [log.read_text(errors="replace") for log in logs.rglob("*") if log.is_file()]
        assert not any(secret in text for secret in (token, TOKEN) for text in seen)
    assert not path.parent.exists()
    assert not left.exists()
    assert os.environ["RAY_AUTH_TOKEN"] == TOKEN
    wait_until(lambda: not any(map(psutil.Process.is_running, family[1:])), "the end of Ray")


def leave_a_token() -> Path:
    """Leave a token as a process that was killed an hour ago does."""
    folder = Path(tempfile.mkdtemp(prefix="coldfuse-ray-"))
    (folder / "token").write_text(TOKEN)
    os.utime(folder / "token", times=(time.time() - 3600.0,) * 2)
    return folder
