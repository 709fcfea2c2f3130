"""How often somebody may ask for what costs the gateway more than it costs them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MAX_CALLERS = 1024
"""Callers whose budgets are known at a time; one that is forgotten begins anew, and the sum is bounded in any case."""


@dataclass
class Budget:
    """So many at once, and then so many a second.

    >>> budget = Budget(per_s=1.0, burst=2.0)
    >>> [budget.take(now_s=now_s) for now_s in (0.0, 0.0, 0.5, 1.5)]
    [True, True, False, True]
    """

    per_s: float
    burst: float
    spent: float = 0.0
    since_s: float = 0.0

    def take(self, *, now_s: float) -> bool:
        """Take one, if one is left."""
        self.spent = max(self.spent - max(now_s - self.since_s, 0.0) * self.per_s, 0.0)
        self.since_s = now_s
        if self.spent + 1 > self.burst:
            return False
        self.spent += 1
        return True

    def give_back(self) -> None:
        """Give back what was taken, as it was none of what is counted."""
        self.spent = max(self.spent - 1, 0.0)


class Budgets:
    """A budget for each caller, and one for all of them."""

    def __init__(self, *, each_per_s: float, each_burst: float, all_per_s: float, all_burst: float) -> None:
        self._each = each_per_s, each_burst
        self._all = Budget(all_per_s, all_burst)
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def take(self, caller: str, *, now_s: float) -> bool:
        """Take one for a caller, if they and all have one left."""
        budget = self._budgets.pop(caller, None) or Budget(*self._each)
        self._budgets[caller] = budget
        while len(self._budgets) > _MAX_CALLERS:
            self._budgets.popitem(last=False)
        return budget.take(now_s=now_s) and self._all.take(now_s=now_s)

    def give_back(self, caller: str) -> None:
        """Give back what a caller has taken."""
        self._all.give_back()
        if (budget := self._budgets.get(caller)) is not None:
            budget.give_back()
