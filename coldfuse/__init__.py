"""coldfuse: many parties improve one shared pretrained model, and their data never leaves them.

Read the packages in the order in which data flows: `contributor`, `transport`, `storage`, `registry`, `aggregator`,
`fusion`, `fetch`. Importing coldfuse loads neither torch nor ray nor transformers.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("coldfuse")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
