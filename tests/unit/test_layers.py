"""Who may import whom, held as data: the table of the packages, and the only homes of some libraries."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import coldfuse

ROOT = Path(coldfuse.__file__).parent

MAY_IMPORT = {
    "errors": "",
    "processes": "",  # starting and ending child processes
    "durable": "",  # files that are there whole or not at all
    "core": "",
    "proxies": "config",  # which proxy of the environment a connection goes through
    "storage": "durable proxies",
    "trust": "core durable",  # keys lie in files of their owner
    "tensors": "core durable storage",
    "naming": "core",  # what transformers calls the tensors of a model
    "adapters": "core naming tensors",
    "fusion": "core",
    "registry": "core tensors storage trust",
    "engine": "config core naming tensors adapters fusion registry storage",
    "gateway": "core tensors storage registry trust",
    # what was contributed is read as the engine reads it, out of the store or through a gateway
    "movement": "core tensors fusion engine registry gateway",
    "doctor": "core tensors registry storage trust",
    "transport": "core tensors gateway registry storage trust config proxies",
    "aggregator": "core tensors fusion engine registry storage trust webhooks evaluation",
    "webhooks": "core registry storage",
    "data": "core extras",  # databases and the Hub need libraries of an extra
    # pictures need a library of an extra; adapters know which types are a change of weights
    "training": "core durable naming tensors adapters data extras",
    "evaluation": "core durable tensors data training",  # scores and features are kept in files
    "consumer": "core durable tensors registry gateway trust",
    "contributor": "core durable tensors data training consumer gateway trust",  # what it sends is signed
    # what it scores is brought as a consumer does, and its counts are signed
    "evaluator": "core durable tensors evaluation registry consumer gateway trust",
    "attached": "core durable naming adapters tensors",  # models and Trainers of the user's own
    "search": "core tensors fusion engine data training evaluation",
    "testing": "core tensors fusion engine",
    "config": "",
    "extras": "",  # what to install for what
    "recipes": "core tensors fusion engine",
    # looks at a store as everybody writes it: fuses again as the aggregator does, and reads what a fetch has left
    "verification": "core tensors engine registry storage trust aggregator consumer doctor gateway",
    "publishing": "core consumer verification",  # what is pushed was fetched and verified
    "simulation": "core processes tensors engine registry storage gateway transport aggregator data config",
    "api": "core durable recipes naming tensors adapters fusion engine registry storage gateway transport trust "
    "consumer contributor attached search movement verification publishing data training evaluation config extras",
    "experiments": "*",
    "cli": "*",
    "__main__": "cli",
    "__init__": "api gateway movement publishing",
}
"""Besides `errors`, which everybody may import, and `coldfuse` itself, for the version. `*` is everything."""

ONLY_HOMES = {
    "boto3": "storage experiments",  # they measure boto3 itself beside coldfuse
    "botocore": "storage experiments",
    "mypy_boto3_s3": "storage experiments",
    # experiments measure the bare channel beside coldfuse's own; the engine asks a Ray cluster what it tells strangers
    "grpc": "transport experiments engine",
    "google": "transport",
    "ray": "engine aggregator experiments",
    "urllib3": "storage webhooks",  # boto3 brings it
    "cryptography": "trust",
    "securesystemslib": "trust",
    "safetensors": "",  # tensors parses and writes headers itself, in ranges of files that lie anywhere
    # the engine only moves matrices to a GPU
    "torch": "adapters attached engine naming training evaluation search experiments",
    "peft": "adapters attached training",
    "accelerate": "training",
    "datasets": "data",
    "sqlalchemy": "data",
    "seqeval": "training",
    "transformers": "adapters attached naming training evaluation experiments",
    "sklearn": "training evaluation experiments",
    "numba": "engine fusion experiments",  # experiments report its version
    "huggingface_hub": "api naming publishing training",  # training names an error that loading raises
    "yaml": "recipes training",
    "typer": "cli",
    "rich": "api cli experiments",
}

FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(path for path in ROOT.rglob("*.py") if "pb" not in path.relative_to(ROOT).parts))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@dataclass(frozen=True)
class ModuleInfo:
    """What is checked of a module; its tree is large, and walked but once."""

    imports: set[str]
    """The full names that it imports, also inside functions and for type checking."""
    attributes: set[str]
    """Every name that stands behind a dot."""
    loads_and_saves: set[str]
    """What is called `load` or `save`, with all that stands before the dot."""
    calls: set[str]


@cache
def info_of(path: Path) -> ModuleInfo:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    return ModuleInfo(
        imports=set(imported(nodes)),
        attributes={node.attr for node in attributes},
        loads_and_saves={dotted(node) for node in attributes if node.attr in ("load", "save")},
        calls={dotted(node.func) for node in nodes if isinstance(node, ast.Call)},
    )


def dotted(node: ast.AST) -> str:
    """Return names joined by dots as they stand in the source; what is no name is left out."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=before, attr=name):
            return f"{dotted(before)}.{name}"
    return ""


def imported(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    return info_of(path).imports


def layers(names: set[str]) -> set[str]:
    """Keep the packages of coldfuse among imported names: what stands after the first dot, if it is one."""
    inside = {name.split(".")[1] for name in names if name.startswith("coldfuse.")}
    return {name for name in inside if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()}


def test_imports_follow_the_table() -> None:
    for path in modules():
        package = package_of(path)
        allowed = MAY_IMPORT[package].split()
        used = layers(imports_of(path)) - {package, "errors"}
        assert allowed == ["*"] or used <= set(allowed), path


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph.setdefault(package_of(path), set()).update(layers(imports_of(path)) - {package_of(path)})
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("core") < order.index("tensors") < order.index("engine") < order.index("aggregator")


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    names = {".".join(("coldfuse", *path.relative_to(ROOT).with_suffix("").parts)): path for path in modules()}
    graph = {
        name: {used for used in imports_of(path) if used in names and used != name} for name, path in names.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(names)


def test_libraries_stay_in_their_homes() -> None:
    for path in modules():
        for library in {name.split(".")[0] for name in imports_of(path)} & ONLY_HOMES.keys():
            assert package_of(path) in ONLY_HOMES[library].split(), (path, library)


def test_nothing_is_pickled() -> None:
    for path in modules():
        assert not {name.split(".")[0] for name in imports_of(path)} & FORBIDDEN, path
        used = info_of(path).loads_and_saves
        assert not used & {"torch.load", "torch.save", "np.load", "np.save", "numpy.load", "numpy.save"}, path


def test_only_the_configuration_reads_the_environment() -> None:
    for path in modules():
        touched = info_of(path).attributes | {name.split(".")[-1] for name in imports_of(path)}
        assert path.name == "config.py" or not touched & {"environ", "getenv", "putenv", "environb"}, path


def test_values_and_maths_touch_no_file_clock_or_random_state() -> None:
    forbidden = {"os", "pathlib", "time", "random", "secrets", "socket", "ray", "torch", "subprocess", "threading"}
    takes_a_lock = {"fusion/compiling.py": {"threading"}}  # numba cannot be imported by two threads at once
    for path in (path for path in modules() if package_of(path) in ("core", "fusion")):
        allowed = takes_a_lock.get(path.relative_to(ROOT).as_posix(), set())
        assert not {name.split(".")[0] for name in imports_of(path)} & forbidden - allowed, path
        assert not {call for call in info_of(path).calls if call == "open" or call.startswith("np.random")}, path
