"""Read one range of each of many local files in one call.

Every call into the system lets go of the interpreter's lock and has to get it back, which with two threads takes longer
than reading a few hundred KiB. So the loop over the files is compiled, and calls `pread` (POSIX) itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw
from coldfuse.fusion.compiling import External, compiled, is_loaded

_pread: Any = External("pread", "intp", "intc", "uintp", "uintp", "int64")


def read_ranges(fds_C: NDArray[np.int64], starts_C: NDArray[np.int64], out: Raw) -> int:
    """Fill `out` with rows of equal length, one from each open file.

    Args:
        fds_C: Descriptors of the files; a negative one leaves its row as it is.
        starts_C: The byte in each file at which its row begins.
        out: C rows, one after the other.

    Returns:
        Index of the first row that could not be read to its end, or C: the caller reads that one again, to say why.
        While no compiled code is loaded, it is 0: what is small is read sooner than numba is loaded.
    """
    return int(_read_ranges(fds_C, starts_C, out)) if is_loaded() else 0


@compiled
def _read_ranges(fds: Any, starts: Any, out: Any) -> Any:
    length = out.size // max(fds.size, 1)
    for row in range(fds.size):
        done = 0
        while fds[row] >= 0 and done < length:
            count = _pread(
                np.int32(fds[row]), np.uint64(out.ctypes.data + row * length + done), np.uint64(length - done),
                starts[row] + done,
            )  # fmt: skip
            if count <= 0:
                return row
            done += count
    return fds.size
