"""Load numba in the background where a fusion is large: numpy sums the first blocks meanwhile."""

from __future__ import annotations

import threading

from coldfuse.fusion.compiling import LOADING_PAYS, load

_begun = threading.Event()


def expect(num_elements: int) -> None:
    """Say for how many elements kernels will be asked for: what is large begins to load numba now.

    Args:
        num_elements: Number of elements over all contributions, which may be an estimate.
    """
    if num_elements > LOADING_PAYS and not _begun.is_set():
        _begun.set()
        threading.Thread(target=load, name="numba", daemon=True).start()
