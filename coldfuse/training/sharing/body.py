"""The body of a shared module: found on this machine, and verified by its digest.

A node reads the whole body once to hash it. What it found is noted beside its work, with size, time and inode of every
file, so that the next start looks at those alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from coldfuse.core.shared_module import Body
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import Checkpoint, open_checkpoint


def find_body(body: Body, given: Path | None) -> Path:
    """Return the folder of a body: the one given, the one that it came from, or the hub's copy on this machine.

    Args:
        body: The body.
        given: A folder that the user names.

    Raises:
        UserInputError: It is not on this machine; the message says how to get it.
    """
    if given is not None:
        if not given.is_dir():
            raise UserInputError(f"--body {given}: no such folder; give the model's folder {_which(body)}")
        return given
    if Path(body.origin).is_dir():
        return Path(body.origin)
    if found := _in_cache(body):
        return found
    raise UserInputError(
        f"this federation shares a module alone, and its body {_which(body)} is not on this machine; "
        f"{_how_to_get(body)}give its folder with --body DIR"
    )


def verify_body(
    folder: Path, body: Body, *, note: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> Checkpoint:
    """Open a body, and read it whole unless that was done before and no file has changed since.

    Args:
        folder: The body's folder.
        body: What it has to be.
        note: File in which it is noted what was verified; None: nothing is.
        tell: Told before it is read.

    Raises:
        UserInputError: It is another model.
    """
    checkpoint = open_checkpoint(folder)
    seen = _looks(checkpoint, folder)
    if note is not None and _read_note(note) == {"digest": body.digest, "files": seen}:
        return checkpoint
    size = sum(file.file.size_bytes for file in checkpoint.files.values())
    tell(f"verifying the body in {folder}: {size / 2**30:.2f} GiB")
    if (digest := checkpoint.digest()) != body.digest:
        raise UserInputError(
            f"{folder}: another model (digest {digest[:12]}) than the body of this federation, {_which(body)} (digest "
            f"{body.digest[:12]}); {_how_to_get(body)}give its folder with --body DIR"
        )
    if note is not None:
        write_whole(note, json.dumps({"digest": body.digest, "files": seen}).encode())
    return checkpoint


def _looks(checkpoint: Checkpoint, folder: Path) -> dict[str, list[int]]:
    stats = {name: (folder / name).resolve().stat() for name in checkpoint.files}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in sorted(stats.items())}


def _read_note(note: Path) -> object:
    try:
        return json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None


def _in_cache(body: Body) -> Path | None:
    """Return the hub's copy of a body, if this machine has it; nothing is downloaded."""
    if _is_path(body):
        return None
    try:
        return Path(snapshot_download(body.origin, revision=body.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None


def _is_path(body: Body) -> bool:
    return body.origin.startswith((".", "/", "~")) or body.origin.count("/") > 1


def _which(body: Body) -> str:
    return repr(body.where)


def _how_to_get(body: Body) -> str:
    if _is_path(body):
        return ""
    revision = f" --revision {body.revision}" if body.revision else ""
    return f"download it (hf download {body.origin}{revision}), or "
