"""What lies in a model's folder: its weights, the files beside them that belong to it, and what does not.

Five kinds of folders are models:

- one with `config.json`, as transformers and diffusers save one model;
- one with `modules.json`, as sentence-transformers saves a chain of modules: the file names their folders, and those
  with weights (Dense, LayerNorm, …) have files of their own; a Router's modules lie another folder down;
- one with `model_index.json`, as diffusers saves a pipeline: each component that the file names has a folder;
- one with `coldfuse_module.json`: a module on a frozen body (`core.shared_module`), whose body lies elsewhere;
- one with weights by their usual names and no tokenizer, as whoever builds the module in code of their own saves it.

Each of these folders is a component. What its files hold is known by its name and theirs,
`2_Dense/linear.weight`; the tensors in the model's own folder keep their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from coldfuse.core.model_files import (
    INDEX,
    MODULE_FILES,
    MODULE_WEIGHT_FILES,
    MODULES,
    NAMING_FILES,
    OTHER_WEIGHTS,
    PIPELINE,
    TEMPLATES,
    is_model_file,
    is_module_file,
    is_tokenizer_file,
    may_be_released,
    named_files,
    why_left_out,
)
from coldfuse.core.shared_module import MODULE_FILE
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import read_bytes
from coldfuse.tensors.folders import Folder
from coldfuse.tensors.index import Weights, choose_weights, require_printable

_OURS = (".coldfuse/", "outer/")
"""Folders that coldfuse itself writes beside a model."""

_MAX_PLAIN_BYTES = 1 << 30
"""Maximum size of a configuration or tokenizer file, which is held in memory."""

_MAX_DEPTH = 8
"""Maximum number of folders that modules lie in, one in the other; a folder may be linked to itself."""

_MAX_JSON_BYTES = 1 << 24
"""Maximum size of a configuration: parsed, it may take fifty times its size."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One folder of a model, with its weights."""

    folder: str
    """The folder's name with a slash at its end; empty for the model's own folder."""
    weights: Weights | None
    """Its weights, by their names in it; None: it has none, as a pooling or a scheduler."""
    may_be_cut: bool
    """True if the library that loads it follows an index of several files."""

    @property
    def files(self) -> list[str]:
        """Names of its safetensors files in the model."""
        return [self.folder + name for name in self.weights.files] if self.weights else []

    @property
    def index(self) -> str | None:
        """Name in the model of the file that says which tensor lies in which of them, if there is one."""
        return self.folder + self.weights.index if self.weights and self.weights.index else None


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """The files of a model's folder, by their names from there."""

    components: tuple[Component, ...] = ()
    plain: tuple[str, ...]
    """Configuration, tokenizers and what else belongs to the model, sorted."""
    others: tuple[str, ...] = ()
    """What does not belong to it, sorted; a folder's name ends with a slash."""

    @property
    def weights(self) -> list[str]:
        """All safetensors files that hold weights."""
        return [name for component in self.components for name in component.files]


def find_model(folder: Folder) -> ModelFolder:
    """Tell what in a folder is a model.

    Raises:
        UserInputError: It is no model, not all of one, or its weights are in another form than safetensors.
    """
    places = _places(folder)
    entries = {place: folder.entries(place) for place in places}
    components, plain, others = [], set[str](), set[str]()
    for place, has_weights in places.items():
        weights = _weights(folder, place, entries[place], is_alone=len(places) == 1) if has_weights else None
        components.append(Component(folder=place, weights=weights, may_be_cut=MODULES not in entries[""] or not place))
        own = {*_plain(folder, place, entries[place]), *((weights.index,) if weights and weights.index else ())}
        plain |= {place + name for name in own}
        taken = {*own, *(weights.files if weights else ()), f"{TEMPLATES}/", *_OURS}
        others |= {place + name for name in entries[place] - taken}
    others = {name for name in others if not any(place.startswith(name) for place in places)}
    require_printable(sorted(plain), str(folder))
    return ModelFolder(components=tuple(components), plain=tuple(sorted(plain)), others=tuple(sorted(others)))


def read_json(folder: Folder, name: str) -> object:
    """Read a configuration; None if there is no such file.

    Raises:
        UserInputError: It is no JSON, or too large to be a configuration.
    """
    data = read_small(folder, name, most=_MAX_JSON_BYTES)
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserInputError(f"{folder}/{name}: not JSON: {error}") from error


def lenient_json(folder: Folder, name: str) -> object:
    """Read a configuration; None also if it cannot be read: whoever loads it says so."""
    try:
        return read_json(folder, name)
    except UserInputError:
        return None


def read_small(folder: Folder, name: str, *, most: int = _MAX_PLAIN_BYTES) -> bytes | None:
    """Return the content of a small file; None if there is no such file. Raises `UserInputError` if it is not small."""
    file = folder.find(name)
    if file is not None and file.size_bytes > most:
        raise UserInputError(f"{file}: {file.size_bytes:,} bytes are no configuration or tokenizer; remove it")
    return None if file is None else read_bytes(file)


def _places(folder: Folder) -> dict[str, bool]:
    """Return the folders that make a model, the model's own first, and whether each may have weights."""
    root = folder.entries("")
    if MODULE_FILE in root:
        return {"": True}
    if PIPELINE in root:
        return _components(folder, root)
    if MODULES in root:
        modules = read_json(folder, MODULES)
        paths = [of.get("path") for of in modules if isinstance(of, dict)] if isinstance(modules, list) else [None]
        if not all(isinstance(path, str) and is_inside(path) for path in paths):
            raise UserInputError(f"{folder}/{MODULES}: expected a list of modules, each with the path of its folder")
        found = [f"{PurePosixPath(path)}/" if PurePosixPath(path).parts else "" for path in map(str, paths)]
        is_loaded_too = not root.isdisjoint({"model.safetensors", INDEX})  # by libraries that know of no modules
        return {"": is_loaded_too} | {place: True for one in found for place in _with_routes(folder, one)}
    if "config.json" not in root:
        if root.isdisjoint({"model.safetensors", INDEX}) or any(map(is_tokenizer_file, root)):
            raise UserInputError(_no_model(folder, sorted(root)))
        _require_fetched(folder, root)
    return {"": True}


def _components(folder: Folder, root: set[str]) -> dict[str, bool]:
    """Return the folders of a pipeline."""
    components = read_json(folder, PIPELINE)
    if not isinstance(components, dict):
        raise UserInputError(f"{folder}/{PIPELINE}: expected an object that names a pipeline's components")
    named = [name for name, of in components.items() if isinstance(of, list) and any(of) and name[:1] != "_"]
    if missing := [name for name in named if f"{name}/" not in root]:
        raise UserInputError(f"{folder}: {PIPELINE} names {missing[0]}, which is not there; fetch the whole model")
    return {"": False} | {f"{name}/": True for name in sorted(named)}


def _require_fetched(folder: Folder, root: set[str]) -> None:
    """Refuse a folder that lacks a configuration because a fetch into it was ended while files were swapped."""
    own = folder.entries(_OURS[0]) if _OURS[0] in root else set[str]()
    if "written.json" in own and "release.json" not in own:
        raise UserInputError(f"{folder}: a fetch into it was ended before all was in place; fetch again")


def _with_routes(folder: Folder, place: str) -> Iterator[str]:
    """Yield a module's folder, and those of the modules that it routes to (Router, and Asym before it)."""
    yield place
    entries = folder.entries(place)
    if not any(name.endswith("/") for name in entries):
        return
    for name in ("router_config.json", "config.json"):
        config = lenient_json(folder, place + name) if name in entries else None
        if isinstance(config, dict) and isinstance(config.get("types"), dict) and "structure" in config:
            for module in config["types"]:
                if not (is_inside(module) and PurePosixPath(module).parts) or place.count("/") > _MAX_DEPTH:
                    raise UserInputError(f"{folder}/{place}{name}: {module!r} is no folder of a module")
                yield from _with_routes(folder, f"{place}{module}/")
            return


def is_inside(path: str) -> bool:
    """Tell whether a name from a configuration stays in the folder that it is relative to.

    >>> is_inside("2_Dense/model.safetensors"), is_inside("_a/../../x.py"), is_inside("/etc/passwd")
    (True, False, False)
    """
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and path.isprintable() and "\\" not in path


def _weights(folder: Folder, place: str, names: set[str], *, is_alone: bool) -> Weights | None:
    what = f"{folder}/{place}".rstrip("/") if place else str(folder)
    if MODULE_FILE in names and not place:
        return _module_weights(what, names)
    is_diffusers = {"model.safetensors", "diffusion_pytorch_model.safetensors"} <= names and _is_of_diffusers(
        folder, place
    )
    found = choose_weights(names, lambda name: read_small(folder, place + name) or b"", what, is_diffusers=is_diffusers)
    others = sorted(name for name in names if why_left_out(name) == OTHER_WEIGHTS and not name.endswith(("/", ".json")))
    if found is None and (others or is_alone):
        raise UserInputError(_no_safetensors(what, others, is_alone=is_alone))
    return found


def _module_weights(what: str, names: set[str]) -> Weights:
    """Return the file with a module's tensors, of which there must be one."""
    found = [name for name in MODULE_WEIGHT_FILES if name in names]
    if len(found) != 1:
        raise UserInputError(
            f"{what}: a module has its tensors in one of {' and '.join(MODULE_WEIGHT_FILES)}, and here "
            f"{'are both' if found else 'is none'}; fetch it again"
        )
    return Weights((found[0],), None)


def _is_of_diffusers(folder: Folder, place: str) -> bool:
    config = lenient_json(folder, f"{place}config.json")
    return isinstance(config, Mapping) and "_class_name" in config


def _plain(folder: Folder, place: str, names: set[str]) -> set[str]:
    """Return the files of a folder that belong to the model beside its weights, by their names there."""
    if MODULE_FILE in names and not place:
        return names & {*MODULE_FILES}
    belongs = is_module_file if place else is_model_file
    plain = {name for name in names if belongs(name)}
    if f"{TEMPLATES}/" in names:
        templates = (f"{TEMPLATES}/{name}" for name in folder.entries(f"{place}{TEMPLATES}/"))
        plain |= {name for name in templates if is_model_file(name)}
    unknown = {name for name in names - plain if may_be_released(name) and not name.endswith(".safetensors")}
    if not unknown:
        return plain
    return plain | {name for config in NAMING_FILES if config in names for name in _named(folder, place + config)} & (
        unknown | plain
    )


def _named(folder: Folder, name: str) -> Iterator[str]:
    config = lenient_json(folder, name)
    return named_files(config) if isinstance(config, dict) else iter(())


def _no_safetensors(what: str, others: list[str], *, is_alone: bool) -> str:
    if not others:
        has = ""
    elif (own := [name for name in others if name.endswith(".safetensors")]) == others and len(own) == 1:
        return (
            f"{what}: no model.safetensors, but {own[0]}; give that file itself, or rename it to what libraries load "
            "from a folder"
        )
    else:
        has = f", but {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}"
    if is_alone:
        how = "convert others with AutoModel.from_pretrained(…).save_pretrained(…, safe_serialization=True)"
    else:
        how = "load the whole model with the library that wrote it, and save it again with safe_serialization=True"
    return f"{what}: no model.safetensors{has}; coldfuse reads safetensors only ({how})"


def _no_model(folder: Folder, names: list[str]) -> str:
    line = f"{folder}: expected a Hugging Face model folder, but it has no config.json, {MODULES} or {PIPELINE}"
    files = [name for name in names if name.endswith(".safetensors")]
    if files:
        return f"{line}; for a checkpoint of one file give the file: {folder}/{files[0]}"
    for name in names:  # as older sentence-transformers write it
        if name.endswith("/") and "config.json" in folder.entries(name):
            return f"{line}; {name[:-1]} in it has one: name {folder}/{name[:-1]}"
    return line
