"""What a user names as a model that is to be scored, as a folder that can be loaded.

./model, ORG/NAME          a folder, or a model of the hub
STORE, STORE@7, STORE@stable, HOST:PORT@7
a release of a federation: the channel's or that of the number, fetched and verified
adapter/, delta.safetensors
a PEFT adapter or a delta file, put on the base that `base` names
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.api.places import locate, resolve_model
from coldfuse.core.model_files import ENTRIES
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.core.shared_module import ADAPTER_CONFIG
from coldfuse.durable import explained
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.evaluation.protocols import Model
from coldfuse.evaluation.suites import distinct_names
from coldfuse.registry.channels import check_channel
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.tensors.checkpoint import open_tensors_at
from coldfuse.tensors.deltas import FORMAT
from coldfuse.tensors.folder_digest import digest_of, digest_of_path
from coldfuse.tensors.folders import Location, is_remote
from coldfuse.transport.connect import is_address

Which = int | str
"""Number of a release, or a channel."""

Fetch = Callable[[str, Which, Path], None]
"""fetch(source, which, folder): bring a release of a federation into a folder, verified."""

_RELEASE = re.compile(r"(?P<source>.+)@(?P<which>[0-9]{1,9}|[a-z][a-z0-9._-]{0,62})")
_MOST_SHOWN = 200
_WHOLE = tuple(name for name in ENTRIES if name != ADAPTER_CONFIG)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Where models come from, and where what has to be made of them lies."""

    fetch: Fetch
    """Brings a release."""
    folder: Path
    """Where releases, and adapters on their base, are kept."""
    base: str | None = None
    """Base of deltas and adapters."""

    def find(self, names: Sequence[str]) -> tuple[Model, ...]:
        """Return models by what a user calls them, in their order.

        Raises:
            UserInputError: One cannot be had, or is no model that can be scored.
        """
        found = []
        for name, shown in zip(names, shown_names(names), strict=True):
            with explained(Path(name), "read"):
                folder = self._folder_of(name).absolute()  # workers may stand in another folder
            found.append(Model(name=shown, folder=folder, digest=digest_of(folder)))
        return tuple(found)

    def place_of(self, name: str) -> Location:
        """Return where what a name means lies, to be read and not loaded: a delta or adapter stays what it is.

        Raises:
            UserInputError: It cannot be had.
        """
        release = _as_release(name)
        return self._fetched(*release) if release else locate(name)

    def _folder_of(self, name: str) -> Path:
        if release := _as_release(name):
            return self._fetched(*release)
        path = Path(name)
        if name.endswith(".safetensors") or _is_adapter(path):
            return self._on_base(name)
        if is_remote(name):
            raise UserInputError(
                f"{name}: a model is scored on this machine; name a release as {name}@latest, or copy the model here"
            )
        return resolve_model(name)

    def _fetched(self, source: str, which: Which) -> Path:
        out = self.folder / f"{sha256(source.encode())[:16]}-{which}"
        self.fetch(source, which, out)
        if not any((out / name).is_file() for name in _WHOLE):
            raise UserInputError(
                f"{source}: its releases are a module on a frozen body, and no whole model; fetch one, put it on the "
                "body, and name the folder"
            )
        return out

    def _on_base(self, name: str) -> Path:
        if self.base is None:
            raise UserInputError(f"{name}: a delta or adapter; name the model that it was made on with --base MODEL")
        base, change = resolve_model(self.base), locate(name)
        out = self.folder / f"on-base-{sha256(canonical_json([digest_of(base), digest_of_path(Path(name))]))[:32]}"
        if not out.is_dir():
            request = FolderFusion(base=base, models=[change], out=out, recipe=read_recipe("mean"))
            fuse_folders(request, ThreadExecutor(1))
        return out


def shown_names(names: Sequence[str]) -> list[str]:
    """Return what models are called in tables, by what their user calls them: no two alike."""
    return distinct_names([_shown(name) for name in names])


def is_change(where: Location) -> bool:
    """Tell whether this is a delta file or an adapter's folder, and by itself no model."""
    if str(where).endswith(".safetensors"):
        return open_tensors_at(where).header.metadata.get("format") == FORMAT
    return not is_remote(where) and _is_adapter(Path(where))


def _as_release(name: str) -> tuple[str, Which] | None:
    """Return the federation and the release that a name is of; None where it is a model itself.

    A folder that is there is what it is, whatever its name.
    """
    path = Path(name)
    if os.path.isdir(path):
        return (name, "latest") if (path / SETTINGS_KEY).is_file() else None
    match = _RELEASE.fullmatch(name)
    if match is not None:
        which = match["which"]
        return match["source"], int(which) if which.isdecimal() else check_channel(which)
    return (name, "latest") if is_address(name) else None


def _is_adapter(path: Path) -> bool:
    return os.path.isdir(path) and (path / ADAPTER_CONFIG).is_file() and not (path / "config.json").is_file()


def _shown(name: str) -> str:
    """Return what a model is called: of a path its last part, anything else as it is."""
    if "://" in name or "@" in name or not os.path.exists(name):
        return name[:_MOST_SHOWN]
    return Path(name).resolve().name or name
