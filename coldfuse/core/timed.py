"""The time of what happens in a round."""

from __future__ import annotations

from coldfuse.core.past import Seconds
from coldfuse.core.value import Value


class Timed(Value):
    """What happened at an age of the round."""

    elapsed_s: Seconds | None = None
    """Seconds since the round was opened, by the monotonic clocks of those who led it, one after the other; None in
    journals of versions in which nobody measured it. Clocks of two machines are never compared."""
