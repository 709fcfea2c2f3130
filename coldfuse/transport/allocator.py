"""glibc's malloc, set for a process that takes and gives back a megabyte a thousand times a second.

By default each such block goes back to the system when it is freed, and its next use faults in 256 zeroed pages: that
was a fifth of a gateway's processor time. And every thread gets a heap of its own, whose holes add up. Kept in one
heap, the same blocks serve again and again, and memory stays flat.
"""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD, _ARENA_MAX = -3, -1, -2, -8
"""Names of mallopt's parameters, from glibc's malloc.h."""

_SETTINGS = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 16 << 20, _TOP_PAD: 4 << 20, _ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Keep up to 16 MiB of freed memory for the next use, in this whole process; False where malloc is not glibc's."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # macOS, musl: nothing to set, and nothing is wrong
        return False
    outcomes = [mallopt(name, value) for name, value in _SETTINGS.items()]  # every one is tried
    return all(outcomes)
