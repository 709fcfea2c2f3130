"""Code that a model's configuration names: without it libraries cannot load the model, and nothing here runs it.

transformers names code in `auto_map` (`modeling_x.MyModel`: a class in `modeling_x.py`), sentence-transformers as the
type of a module, diffusers as the class of a pipeline or component. Code also needs the files that it imports from its
own folder (`from .configuration_x import …`), which are found by parsing it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import MODULES, NAMING_FILES, PIPELINE, folder_of
from coldfuse.tensors.folders import Folder
from coldfuse.tensors.model_folder import is_inside, lenient_json, read_small

_REFERENCE = re.compile(r"([\w.-]+/[\w.-]+--)?[\w-]+(\.[\w-]+)+")
"""A class, and the module that has it; perhaps in another repository of the hub."""


_MAX_CODE_BYTES = 4 << 20
"""Maximum size of a file of code that is parsed, which takes a hundred times as much."""

_NAMING = frozenset({"config.json", MODULES, PIPELINE, *NAMING_FILES})
"""Configurations that may name code."""


@dataclass(frozen=True)
class CustomCode:
    """The code of a model."""

    found: tuple[str, ...] = ()
    """Files that the configuration names, and those that they import, sorted."""
    missing: tuple[str, ...] = ()
    """Files that should be there and are not."""
    elsewhere: tuple[str, ...] = ()
    """Repositories of the hub that the configuration names code of."""
    named_by: tuple[str, ...] = ()
    """Configurations that name the code."""

    def left_out(self, what: str, *, how: str, is_copied: bool = False) -> tuple[LeftOut, ...]:
        """Say what of the code a result lacks.

        Args:
            what: The model's name.
            how: How to get a model that can be loaded.
            is_copied: True if what was found goes into the result.
        """
        by = ", ".join(self.named_by)
        said = []
        if self.found and not is_copied:
            said.append(
                LeftOut(what, self.found, f"code that {by} names, so that the model does not load without; {how}")
            )
        if self.missing:
            said.append(LeftOut(what, self.missing, f"code that {by} names, and not there"))
        if self.elsewhere:
            said.append(LeftOut(what, self.elsewhere, f"code that {by} names in another repository of the hub"))
        return tuple(said)


def find_code(folder: Folder, plain: Iterable[str]) -> CustomCode:
    """Find the code that a model's configuration names.

    Args:
        folder: Where the model lies.
        plain: Names of its configurations and other files.
    """
    configurations = [file for file in plain if file.rpartition("/")[2] in _NAMING]
    named = {(name, file) for file in configurations for name in _named(folder, file)}
    elsewhere = {name.partition("--")[0] for name, _ in named if "--" in name}
    wanted, found, missing = sorted({name for name, _ in named if "--" not in name}), set[str](), set[str]()
    while wanted:
        name = wanted.pop()
        if not is_inside(name):  # what a configuration says is copied, and looked for, in its own folder alone
            missing.add(name)
            continue
        if folder.find(name) is None and folder.find(package := f"{name.removesuffix('.py')}/__init__.py"):
            name = package
        if name in found or folder.find(name) is None:
            missing |= {name} - found
            continue
        found.add(name)
        wanted += [
            folder_of(name) + module
            for module in _relative_imports(read_small(folder, name, most=_MAX_CODE_BYTES) or b"")
        ]
    return CustomCode(*(tuple(sorted(names)) for names in (found, missing, elsewhere, {file for _, file in named})))


def _named(folder: Folder, file: str) -> Iterator[str]:
    """Yield the files of code that a configuration names; `OWNER/NAME--…` for those of another repository."""
    config, base = lenient_json(folder, file), file.rpartition("/")[2]
    if base == MODULES and isinstance(config, list):
        yield from (name for of in config if isinstance(of, dict) for name in _of_module(folder, of))
    elif base == PIPELINE and isinstance(config, dict):
        yield from (name for key, of in config.items() for name in _of_component(folder, key, of))
    elif isinstance(config, dict) and isinstance(config.get("auto_map"), dict):
        for value in config["auto_map"].values():
            for reference in value if isinstance(value, list) else [value]:
                yield from _file_of(reference, folder_of(file))


def _of_module(folder: Folder, module: Mapping[str, object]) -> Iterator[str]:
    """Yield the file of a module's type, which lies in the model's folder or in the module's own."""
    reference, path = module.get("type"), str(module.get("path") or "")
    if isinstance(reference, str) and reference.count(".") == 1:  # those of libraries lie deeper
        for name in _file_of(reference, ""):
            own = f"{path}/{name}".lstrip("/")
            yield own if "--" not in name and folder.find(own) else name


def _of_component(folder: Folder, key: str, of: object) -> Iterator[str]:
    """Yield the file of a pipeline's class, or of a component's, if one of that name lies in the component's folder."""
    module = of[0] if isinstance(of, list) and of else None
    place = "" if key == "_class_name" else f"{key}/"
    for name in _file_of(f"{module}._", place) if module else ():
        if not place or folder.find(name):
            yield name


def _file_of(reference: object, place: str) -> Iterator[str]:
    """Yield the file of a class `module.Class`; nothing for what is no name of a class."""
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        module = reference.rpartition(".")[0]
        yield module if "--" in module else f"{place}{module.replace('.', '/')}.py"


def _relative_imports(code: bytes) -> Iterator[str]:
    """Yield the files beside it that a file of code imports; none if it is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what its author should know is not for who fuses it
            nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (f"{module.replace('.', '/')}.py" for module in modules)
