"""A real one-node Ceph (monitor, OSD, S3 gateway) in a folder: up in about two seconds, gone in none.

Debian packages: ceph-mon ceph-osd radosgw ceph-common. Works as root and as an ordinary user. `auth = none` is Ceph's
inside; its S3 gateway still asks for signed requests.
"""

import json
import shutil
import subprocess
import uuid
from pathlib import Path

from servers.processes import free_ports, is_listening, start, stop, wait_until

PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")

_SHOWN_CHARACTERS = 1000
"""Length of the end of a log that an error shows."""

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# radosgw asks for `secure`, which needs the keys that `none` does without, and hangs
ms mon client mode = crc
run dir = {root}/run
admin socket = {root}/run/$name.asok
pid file = {root}/run/$name.pid
log file = {root}/log/$name.log
mon cluster log file = {root}/log/cluster.log
crash dir = {root}/crash
keyring = {root}/keyring
mon data = {root}/mon
osd data = {root}/osd
rgw data = {root}/rgw
mon allow pool size one = true
mon max pg per osd = 1000
# a monitor ends itself where less than a twentieth of the disk is free
mon data avail warn = 0
mon data avail crit = 0
paxos propose interval = 0.02
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
osd memory target = 939524096
bluestore block size = 21474836480
bluestore fsck on mkfs = false
# 250 ms by default, waited out whenever a device is closed
bdev aio poll ms = 10
# without tcp_nodelay every small request takes 50 ms
rgw frontends = beast endpoint=127.0.0.1:{gateway} tcp_nodelay=1
rgw run sync thread = false
rgw thread pool size = 32
# a gateway that was killed is otherwise waited for, 30 s at a time
rgw cache enabled = false
osd client watch timeout = 2
osd default notify timeout = 2
"""


def missing_programs() -> list[str]:
    """Return which of Ceph's programs this machine lacks."""
    return [name for name in _PROGRAMS if shutil.which(name) is None]


class Ceph:
    """A cluster of one. Data and ports stay the same when a part of it is killed and started again."""

    access_key = "COLDFUSETESTKEY00001"
    secret_key = "coldfusetestsecretcoldfusetestsecret0001"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._mon_v2, self._mon_v1, self._port = free_ports(3)
        self._fsid = str(uuid.uuid4())
        self.endpoint_url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Make the cluster and wait until its gateway takes requests."""
        for name in ("run", "log", "crash", "mon", "osd", "rgw"):
            (self._root / name).mkdir(parents=True)
        values = {"fsid": self._fsid, "root": self._root, "gateway": self._port}
        values |= {"mon_v1": self._mon_v1, "mon_v2": self._mon_v2}
        (self._root / "ceph.conf").write_text(_CONFIGURATION.format(**values))
        (self._root / "keyring").write_text("[mon.]\n\tkey = AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA==\n")
        monitor = f"[v2:127.0.0.1:{self._mon_v2},v1:127.0.0.1:{self._mon_v1}]"
        monmap = str(self._root / "monmap")
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", monitor, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._start_monitor()
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, "--no-mon-config")
        self._spawn("osd", "ceph-osd", "-f", "-i", "0")
        self._wait(lambda: bool(self._osd()["up"]), "ceph-osd")
        self.add_user("coldfuse", self.access_key, self.secret_key)
        self.start_gateway()

    def add_user(self, name: str, access_key: str, secret_key: str) -> None:
        """Let somebody else in."""
        keys = ("--access-key", access_key, "--secret-key", secret_key)
        self._run("radosgw-admin", "user", "create", "--uid", name, "--display-name", name, *keys, "--no-mon-config")

    def start_gateway(self) -> None:
        """Start the S3 gateway, as after `kill_gateway`."""
        self._spawn("rgw", "radosgw", "-f", "-n", "client.admin", "--no-mon-config")
        self._wait(lambda: is_listening(self._port), "radosgw")

    def kill_gateway(self) -> None:
        """Kill the S3 gateway with whatever it is doing."""
        stop(self._daemons.pop("rgw"))

    def kill(self) -> None:
        """Kill everything at once."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()

    def restart(self) -> None:
        """Start everything again after `kill`, on the same data."""
        self._start_monitor()
        last_start = self._osd()["up_from"]
        self._spawn("osd", "ceph-osd", "-f", "-i", "0")
        # The monitor still takes the killed OSD for alive, and a gateway that believes it stalls for 10 s.
        self._wait(lambda: (osd := self._osd())["up"] and osd["up_from"] > last_start, "ceph-osd")
        self.start_gateway()

    def _start_monitor(self) -> None:
        self._spawn("mon", "ceph-mon", "-f", "-i", "a")
        self._wait(lambda: is_listening(self._mon_v2), "ceph-mon")  # `ceph` waits for ever for one that has ended

    def _run(self, *command: str) -> str:
        command = (*command, "-c", str(self._root / "ceph.conf"))
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def _spawn(self, name: str, *command: str) -> None:
        log = self._root / "log" / f"{name}.out"
        self._daemons[name] = start(*command, "-c", str(self._root / "ceph.conf"), log=log)

    def _wait(self, is_ready, what: str) -> None:
        try:
            wait_until(is_ready, what, *self._daemons.values())
        except RuntimeError as error:
            logs = (self._root / "log").iterdir()
            ends = [f"{log.name}: {log.read_text(errors='replace')[-_SHOWN_CHARACTERS:]}" for log in sorted(logs)]
            raise RuntimeError("\n".join([str(error), *ends])) from error

    def _osd(self) -> dict:
        return json.loads(self._run("ceph", "osd", "dump", "-f", "json"))["osds"][0]
