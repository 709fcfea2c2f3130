"""A model, whatever names it, for what reads or loads it: a folder, the hub's id, a release, a delta or adapter."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.api.connect import connect
from coldfuse.api.fuse import fuse
from coldfuse.api.places import Place, locate
from coldfuse.engine.beside import find_beside
from coldfuse.errors import UserInputError
from coldfuse.registry.channels import check_channel
from coldfuse.tensors.checkpoint import open_tensors_at
from coldfuse.tensors.deltas import FORMAT
from coldfuse.tensors.folders import Location, is_remote

_RELEASE = re.compile(r"(.+)@([^@/\\]+)")

Fetch = Callable[[str, int | str, Path], object]
"""fetch(source, which, out): leaves a release, by its number or channel, in a folder."""


def fetch_release(source: str, which: int | str, out: Path) -> None:
    """Fetch a release of a federation that this user knows, and verify it; raises as `coldfuse.fetch`."""
    with connect(source) as federation:
        if isinstance(which, int):
            federation.fetch(out, release=which)
        else:
            federation.fetch(out, channel=which)


def open_any(given: Place, stack: ExitStack, *, fetch: Fetch = fetch_release) -> Location:
    """Return where a model, delta or adapter lies; a release is fetched, and stays until the stack is closed.

    Args:
        given: A folder, a file, `s3://BUCKET/PREFIX`, the hub's id, or a federation's release: `SOURCE@NUMBER` or
            `SOURCE@CHANNEL`, where the source is a store or a gateway's address.
        stack: Removes what was fetched.
        fetch: Fetches a release.

    Raises:
        UserInputError: There is none.
        ColdfuseError: As `fetch` raises.
    """
    name = os.fspath(given)
    release = None if Path(name).exists() else _RELEASE.fullmatch(name)
    if release is None:
        return locate(given)
    source, which = release.groups()
    out = _scratch(stack) / "release"
    fetch(source, int(which) if which.isascii() and which.isdigit() else check_channel(which), out)
    return out


def load_any(where: Location, stack: ExitStack, *, base: Location | None = None) -> Path:
    """Return the folder of a model that can be loaded; a delta or adapter is put on its base for as long as the stack.

    Args:
        where: What `open_any` returned.
        stack: Removes what was made.
        base: The base of a delta or adapter.

    Raises:
        UserInputError: It cannot be loaded from where it lies, or a delta's or adapter's base was not given.
        SchemaMismatchError: It is of another base.
    """
    if not is_change(where):
        if is_remote(where) or not Path(where).is_dir():
            raise UserInputError(
                f"{where}: expected a model's folder on this machine, to load it; bring it there first"
            )
        return Path(where)
    if base is None:
        raise UserInputError(f"{where}: a change of a base, by itself no model; name its base with --base")
    out = _scratch(stack) / "model"
    fuse(base, [where], out=out)
    return out


def is_change(where: Location) -> bool:
    """Tell whether this is a delta file or an adapter's folder."""
    if str(where).endswith(".safetensors"):
        return open_tensors_at(where).header.metadata.get("format") == FORMAT
    return find_beside(where, ADAPTER_CONFIG) is not None


def _scratch(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coldfuse-")))
