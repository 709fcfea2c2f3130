"""A local store whose processes are killed or whose disk is full: what is visible is whole, the rest is collected."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from coldfuse.errors import StorageError
from coldfuse.storage import LocalStore, collect_garbage

WORKERS = Path(__file__).parent.parent / "servers" / "workers.py"


def leftovers(store: LocalStore) -> list[str]:
    return os.listdir(Path(store.url) / ".coldfuse" / "tmp")


def assert_every_object_is_whole(store: LocalStore) -> set[str]:
    digests = {key.removeprefix("objects/") for key in store.list("objects/", limit=10**6).keys}
    for digest in digests:
        assert hashlib.sha256(store.get(f"objects/{digest}")).hexdigest() == digest
    return digests


@pytest.mark.parametrize("num_lines", [1, 2, 15, 40, 90])
def test_after_kill_9_every_object_is_whole_and_none_acknowledged_is_missing(tmp_path, num_lines):
    store = LocalStore(tmp_path)
    with subprocess.Popen([sys.executable, WORKERS, store.url], stdout=subprocess.PIPE, text=True) as writer:
        lines = [next(writer.stdout).split() for _ in range(num_lines)]
        before = set(leftovers(store))
        assert collect_garbage(store, older_than_s=0) <= 1  # one that its writer has not locked yet: it makes another
        lines += [next(writer.stdout).split() for _ in range(4)]  # by then all from before but one are finished
        assert before & set(leftovers(store))  # the writer lives, and so does what it never finishes
        writer.kill()
        lines += [line.split() for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    acknowledged = {kind: [value for each, value in lines if each == kind] for kind in ("object", "pointer")}

    assert set(acknowledged["object"]) <= assert_every_object_is_whole(store)
    for pointer in store.list("pointers/").keys:
        value = store.get(pointer)
        number = int(value[: len(value) // 1000])
        assert value == b"%d" % number * 1000
        assert number >= int((acknowledged["pointer"] or ["0"])[-1])

    num_left = len(leftovers(store))
    assert num_left >= 1  # the fault landed: an object was half written
    assert collect_garbage(store, older_than_s=3600) == 0
    assert collect_garbage(store, older_than_s=0) == num_left
    assert leftovers(store) == []


def test_a_lock_of_a_killed_process_is_free(tmp_path):
    store = LocalStore(tmp_path)
    etag = store.compare_and_swap("pointer", b"1", etag=None)
    program = """
        import os, signal, sys
        from coldfuse.storage import LocalStore
        store = LocalStore(sys.argv[1])
        with store._locked("pointer"):
            print("locked", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    holder = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], check=False, capture_output=True
    )
    assert (holder.returncode, holder.stdout) == (-signal.SIGKILL, b"locked\n")
    store.compare_and_swap("pointer", b"2", etag=etag)
    assert store.get("pointer") == b"2"


FILL = """
    import sys
    from coldfuse.errors import StorageError
    from coldfuse.storage import LocalStore
    store = LocalStore(sys.argv[1])
    small = store.compare_and_swap("pointer", b"small", etag=None)
    def write(writer):
        with writer:
            for _ in range(64):
                writer.write(bytes(2**20))
            writer.commit()
    for use in (
        lambda: store.put_if_absent("objects/put", bytes(2**26)),
        lambda: store.compare_and_swap("pointer", bytes(2**26), etag=small),
        lambda: write(store.open_writer("objects/written")),
    ):
        try:
            use()
        except StorageError as error:
            print(error)
    assert store.put_if_absent("objects/small", b"fits") and store.get("pointer") == b"small"
    assert store.list("").keys == ("objects/small", "pointer"), store.list("")
"""


def fill(folder: Path, *wrapper: str) -> list[str]:
    program = textwrap.dedent(FILL)
    command = [*wrapper, sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_that_may_not_grow_is_an_error_and_leaves_nothing(tmp_path):
    messages = fill(tmp_path, "sh", "-c", 'ulimit -f 16384; exec "$@"', "sh")
    assert len(messages) == 3
    assert all("raise `ulimit -f`" in message for message in messages)
    assert leftovers(LocalStore(tmp_path)) == []


def own_mount(options: str, folder: Path) -> list[str]:
    """Return the words before a command that give it a disk of its own, which goes when the command ends."""
    alone = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a disk of one's own needs unshare and the right to mount")
    return [*alone, "sh", "-c", f'mount -t tmpfs -o {options} none "$0" && exec "$@"', str(folder)]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    messages = fill(tmp_path, *own_mount("size=8m", tmp_path))
    assert len(messages) == 3
    assert all("the disk is full; free some space" in message for message in messages)


def test_a_folder_where_a_file_lies_is_an_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="a file lies where a folder is needed"):
        LocalStore(tmp_path / "file").put_if_absent("key", b"x")


def test_a_key_below_another_is_an_error(tmp_path):
    store = LocalStore(tmp_path)
    store.put_if_absent("a/b", b"x")
    with pytest.raises(StorageError, match="a file lies where a folder is needed"):
        store.put_if_absent("a/b/c", b"x")
    with pytest.raises(StorageError, match=r"where a (folder|file) is needed"):
        store.put_if_absent("a", b"x")


def test_a_read_only_disk_is_an_error(tmp_path):
    program = "import sys; from coldfuse.storage import LocalStore; LocalStore(sys.argv[1]).put_if_absent('key', b'x')"
    command = [*own_mount("ro", tmp_path), sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "the file system is read-only; mount it writable" in done.stderr.splitlines()[-1]
