"""Which release a model was made from, where its folder, or the model in memory, says so.

    .coldfuse/release.json      it was saved over the release that was fetched there
    coldfuse.json               {"base": "<model digest>"} or {"release": 3}, which any program can write
    safetensors metadata        "coldfuse.base": "<model digest>"
    adapter_config.json         base_model_name_or_path: a folder that a release was fetched to
    config.json                 _name_or_path: the same

A folder that has got another release since the model was saved says nothing of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfuse.consumer import fetch, read_fetched
from coldfuse.consumer.folder import OWN, is_whole
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, FederationError, UserInputError
from coldfuse.gateway import Gateway
from coldfuse.tensors.folders import LocalFolder
from coldfuse.tensors.model_folder import lenient_json
from coldfuse.tensors.tensor_file import read_file_header

NOTE = "coldfuse.json"
"""File beside a model in which whoever made it may say from what."""

DIGEST = "coldfuse.base"
"""Name in a safetensors file's metadata of the model digest of its base."""


@dataclass(frozen=True)
class Recognised:
    """The release that a model was made from."""

    release: int
    """Number of the release."""
    folder: Path | None = None
    """Folder that has it whole; None: it has to be fetched."""


def recognise(model: object, gateway: Gateway) -> Recognised | None:
    """Find the release that a model was made from; None where nothing says it.

    Args:
        model: The folder of a model or adapter, or a model in memory.
        gateway: The federation's gateway, which knows its releases.

    Raises:
        UserInputError: What is said is no release of this federation.
    """
    if isinstance(model, str | Path):
        folder = Path(model)
        return _of_folder(folder, gateway) if folder.is_dir() else None
    for place in _named_by(model):
        if (manifest := _whole_at(place)) is not None:
            return Recognised(_known(manifest, gateway, place), place)
    return None


def require_fetched(folder: Path) -> ReleaseManifest:
    """Return the manifest of the release in a folder; refuse one that no fetch wrote, or that has changed since."""
    manifest = read_fetched(folder)
    if manifest is None:
        raise UserInputError(f"{folder}: expected a folder that fetch wrote; fetch the release that you fine-tune")
    if not is_whole(folder, manifest, verify=False):
        raise UserInputError(
            f"{folder}: has changed since release {manifest.release} was fetched to it; save the fine-tuned model to "
            "another folder, and fetch the release again"
        )
    return manifest


def check_base(folder: Path, gateway: Gateway) -> Recognised:
    """Return the release in a folder that the user gives as the base.

    Raises:
        UserInputError: No fetch wrote it, it has changed since, or it is of another federation.
    """
    return Recognised(_known(require_fetched(folder), gateway, folder), folder)


def find_base(
    model: object, gateway: Gateway, *, base: Path | None, release: int | None, last: Path | None, keep: Path
) -> Path:
    """Return the folder of the release that a model was made from, which is fetched where it is not there.

    Args:
        model: The folder of a model or adapter, a state dict, or a model in memory.
        gateway: The federation's gateway.
        base: Folder that the user names; None for none.
        release: Number that the user names; None for none.
        last: Folder that was fetched to last: it counts where nothing else says it.
        keep: Folder to fetch to.

    Raises:
        UserInputError: Nothing says it, or what is said cannot be used.
    """
    if base is not None:
        return base
    found = Recognised(release) if release is not None else recognise(model, gateway)
    if found is None and last is not None:
        return last
    if found is None:
        raise unrecognised(model)
    if found.folder is not None:
        return found.folder
    fetch(gateway, keep, which=found.release, allow_older=True)
    return keep


def unrecognised(model: object) -> UserInputError:
    """Return the error for a model of which nobody says what it was made from."""
    name = str(model) if isinstance(model, str | Path) else type(model).__name__
    return UserInputError(
        f"{name}: does not say which release it was made from; give the folder that it was fetched to (--base FOLDER, "
        "base=FOLDER in Python), or its number (--release N, release=N)"
    )


def _of_folder(folder: Path, gateway: Gateway) -> Recognised | None:
    if (manifest := read_fetched(folder)) is not None:
        return Recognised(_known(manifest, gateway, folder))
    note = _json(folder, NOTE)
    if isinstance(number := note.get("release"), int):
        return Recognised(_known_number(number, gateway, folder / NOTE))
    digest = note.get("base") or _digest_in_weights(folder)
    if isinstance(digest, str):
        return Recognised(_known_digest(digest, gateway, folder))
    saved_ns = max((path.stat().st_mtime_ns for path in folder.glob("*.safetensors")), default=0)
    for place in _named_in(folder):
        if (manifest := _whole_at(place)) is not None:
            if (place / OWN / "release.json").stat().st_mtime_ns > saved_ns:
                raise UserInputError(
                    f"{folder}: was made from {place}, to which release {manifest.release} was fetched afterwards; say "
                    "which release it was made from: --release N (release=N in Python)"
                )
            return Recognised(_known(manifest, gateway, place), place)
    return None


def _named_in(folder: Path) -> Iterator[Path]:
    """Yield the folders that a model's or adapter's configuration names as its origin."""
    for file, key in (("adapter_config.json", "base_model_name_or_path"), ("config.json", "_name_or_path")):
        named = _json(folder, file).get(key)
        if isinstance(named, str) and named:
            yield from (Path(named), folder.parent / named)


def _named_by(model: Any) -> Iterator[Path]:
    """Yield the folders that a model in memory names as its origin."""
    configs = getattr(model, "peft_config", None)
    found = [getattr(config, "base_model_name_or_path", None) for config in (configs or {}).values()]
    for named in (*found, getattr(model, "name_or_path", None)):
        if isinstance(named, str) and named:
            yield Path(named)


def _whole_at(folder: Path) -> ReleaseManifest | None:
    manifest = read_fetched(folder)
    return manifest if manifest is not None and is_whole(folder, manifest, verify=False) else None


def _digest_in_weights(folder: Path) -> str | None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            if digest := read_file_header(path).metadata.get(DIGEST):
                return digest
        except CodecError:  # whoever reads the model says so
            continue
    return None


def _json(folder: Path, name: str) -> Mapping[str, object]:
    found = lenient_json(LocalFolder(folder), name)
    return found if isinstance(found, dict) else {}


def _known(manifest: ReleaseManifest, gateway: Gateway, where: Path) -> int:
    number = _known_number(manifest.release, gateway, where)
    if gateway.release(number).model_digest != manifest.model_digest:
        raise UserInputError(f"{where}: a release of another federation; fetch this one's, and train on it")
    return number


def _known_number(number: int, gateway: Gateway, where: Path) -> int:
    try:
        return gateway.release(number).release
    except FederationError as error:
        raise UserInputError(f"{where}: names release {number}, and this federation has none: {error}") from error


def _known_digest(digest: str, gateway: Gateway, where: Path) -> int:
    for summary in gateway.releases():
        if summary.name.model_digest == digest:
            return summary.name.number
    raise UserInputError(
        f"{where}: says that it was made from model {digest[:12]}, which is no release of this federation; fetch one, "
        "and train on it"
    )
