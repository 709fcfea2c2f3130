"""The environment, read and set in one place.

coldfuse needs no environment variable; COLDFUSE_HOME says where this user's keys lie, where that is not the usual
place. Credentials and addresses of S3 come from the AWS_* variables and profiles, which boto3 reads itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coldfuse.errors import UserInputError

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_AUTH_MODE": "token",  # Ray's own default since 2.60, said aloud: without it Ray warns
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to loopback; else the processes of a local Ray listen everywhere
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # then a process that has lost the GCS ends; 60 by default
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, said aloud: without it Ray warns
}


def home_folder() -> Path:
    """Return this user's own folder: keys, trusted roots, and what was seen last. It may not be there yet."""
    if own := os.environ.get("COLDFUSE_HOME"):
        return Path(own).absolute()
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data).absolute() / "coldfuse"


def with_home(folder: Path) -> dict[str, str]:
    """Return the environment of a child process that has its own folder for keys, trusted roots, and what was seen."""
    return dict(os.environ) | {"COLDFUSE_HOME": str(folder.absolute())}


def credentials_folder() -> Path | None:
    """Return where systemd has put credentials for this service; None where it has not."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


def take_webhook_secret() -> str | None:
    """Return the secret that the environment holds, and take it out: what is started from here has no use for it."""
    return os.environ.pop("COLDFUSE_WEBHOOK_SECRET", None)


_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


def proxy_variables() -> dict[str, str]:
    """Return the variables about proxies that are set, of those that gRPC reads."""
    return {name: value for name in _PROXIES if (value := os.environ.get(name))}


def prepare_grpc() -> None:
    """Keep gRPC from writing lines of its own to standard error, unless the user has asked for them."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


_RAY_FRONTIER = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
"""Whether Ray asks for a token, and which (the first of the two that is set counts); whether others can reach it."""


@contextmanager
def ray_for_itself(token: Path) -> Iterator[None]:
    """Let a Ray that is started in the block be this process's alone, whatever the user has set for other clusters.

    Args:
        token: The file with the token that it asks for.
    """
    before = {name: os.environ.pop(name, None) for name in _RAY_FRONTIER}
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"
    }  # fmt: skip
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}


def ray_uses_tls() -> bool:
    """Tell whether Ray was told to use TLS between its processes."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


_MAX_RAY_FOLDER_BYTES = 107 - len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""Longest name of a folder for Ray: below it lie sockets, whose paths have at most 107 bytes."""

_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a folder of this user's own is made in one of them


def prepare_ray() -> None:
    """Set what Ray reads when it is imported and started, unless the user has set it.

    Raises:
        UserInputError: There is no folder for Ray whose name is short enough.
    """
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.path.abspath(os.environ.get(variable) or "/tmp")  # noqa: S108 - Ray's own default
    if _is_short(folder):
        return
    own = (os.path.join(short, f"coldfuse-{os.getuid()}") for short in _SHORT_FOLDERS)  # a cluster's names are long
    found = next(filter(_is_usable, own), None)
    if found is None:
        raise UserInputError(
            f"{variable} is {folder}: Ray makes sockets below it, and takes at most {_MAX_RAY_FOLDER_BYTES} bytes; set "
            "RAY_TMPDIR to a folder with a shorter name"
        )
    os.environ["RAY_TMPDIR"] = found


def _is_short(folder: str) -> bool:
    return len(os.fsencode(folder)) <= _MAX_RAY_FOLDER_BYTES


def _is_usable(folder: str) -> bool:
    """Make a folder that is this user's alone; False where that cannot be, or somebody else was there first."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return os.stat(folder, follow_symlinks=False).st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


_TRAINING = {
    "TOKENIZERS_PARALLELISM": "false",
    # torch on a CPU keeps up to 1,024 compiled kernels, one for each shape of a batch, and texts give many shapes.
    # With 32 a MiniLM contributor needs 1.05 GB instead of 1.3 GB, at the same speed.
    "LRU_CACHE_CAPACITY": "32",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
}


def prepare_training() -> None:
    """Set what torch and transformers read when they are imported, unless the user has set it."""
    for name, value in _TRAINING.items():
        os.environ.setdefault(name, value)
