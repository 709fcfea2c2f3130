"""S3 servers that come with Python packages: moto imitates conditional writes well, rclone ignores them."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from servers.processes import free_ports, is_listening, start, wait_until


def program(name: str) -> str:
    """Return the path of a program that a Python package has installed, also where the environment is not active."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; run: pip install -e '.[test]'")
    return found


def start_moto(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start moto's server, which keeps everything in memory and takes any credentials; return it and its address."""
    log = folder / "moto.log"
    # moto looks at the condition of a write and then writes, without a lock: threads must not take turns in between.
    code = "import sys; sys.setswitchinterval(1); from moto.server import main; main()"
    process = start(sys.executable, "-c", code, "-H", "127.0.0.1", "-p", "0", log=log)
    address = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
    wait_until(lambda: address.search(log.read_text()) is not None, "moto", process)
    return process, address.search(log.read_text())[1]


def start_rclone(folder: Path, *, access_key: str, secret_key: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start rclone's S3 server over a folder, with each folder in it a bucket; return it and its address."""
    [port] = free_ports(1)
    data = folder / "rclone"
    data.mkdir()
    options = ("--addr", f"127.0.0.1:{port}", "--auth-key", f"{access_key},{secret_key}")
    config = str(folder / "rclone.conf")
    process = start(
        program("rclone"), "--config", config, "serve", "s3", *options, str(data), log=folder / "rclone.log"
    )
    wait_until(lambda: is_listening(port), "rclone", process)
    return process, f"http://127.0.0.1:{port}"
