"""Who does what in which round: speeds, crashes, late and hostile contributors, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum

from coldfuse.errors import UserInputError

_SPEED_SPREAD = 0.3
"""Deviation of the logarithm of a contributor's speed: the slowest of a thousand takes 2.5 times the median."""

_ON_TIME = 0.8
"""Share of the deadline that nobody who is not late trains beyond."""

_LATE = (1.05, 1.3)
"""Between which shares of the deadline late contributors come."""

_RETURNS = 0.5
"""Share of the crashed that come back to the same round."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of the contributors, each between 0 and 1."""

    crash: float = 0.0
    """Share that dies in a round, others in each; half of them come back to it."""
    malicious: float = 0.0
    """Share that attacks, always the same ones."""
    late: float = 0.0
    """Share that comes after the deadline, always the same ones."""

    def __post_init__(self) -> None:
        """Refuse shares that no crowd can have."""
        shares = {field.name: getattr(self, field.name) for field in fields(self)}
        if wrong := [f"{name}={share}" for name, share in shares.items() if not 0 <= share <= 1]:
            raise UserInputError(f"{', '.join(wrong)}: expected a share between 0 and 1")
        if self.malicious + self.late > 1:
            raise UserInputError(f"malicious={self.malicious} and late={self.late} are more than all contributors")


def parse_faults(text: str) -> Faults:
    """Read shares as people write them.

    Raises:
        UserInputError: There is no such fault, or a share is none.

    >>> parse_faults("crash=0.1,late=0.2")
    Faults(crash=0.1, malicious=0.0, late=0.2)
    """
    known = [field.name for field in fields(Faults)]
    shares: dict[str, float] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, value = word.partition("=")
        if name not in known or name in shares:
            raise UserInputError(f"faults {text!r}: {word!r} is none; expected {'=0.1,'.join(known)}=0.1, each once")
        try:
            shares[name] = float(value)
        except ValueError:
            raise UserInputError(f"faults {text!r}: {value!r} is no share; expected a number such as 0.1") from None
    return Faults(**shares)


class CrashPoint(Enum):
    """Where a contributor dies."""

    UPLOAD = "upload"
    """In the middle of its upload."""
    BEFORE_COMMIT = "before-commit"
    """When all is uploaded."""
    AFTER_COMMIT = "after-commit"
    """When it has sent its commit, and before it has read the answer."""


@dataclass(frozen=True, kw_only=True)
class Contributor:
    """One virtual contributor."""

    number: int
    name: str
    slowness: float
    """Factor on the training time."""
    is_late: bool = False
    attack: str | None = None
    """Name of its attack; None where it is honest."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What a contributor does in a round."""

    contributor: Contributor
    round: int
    after_s: float
    """Seconds from the opening of the round until it comes."""
    crash: CrashPoint | None = None
    returns_after_s: float | None = None
    """Seconds after its crash in which it comes back; None: not in this round."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """All that decides who does what."""

    num_contributors: int
    faults: Faults = Faults()
    attacks: Sequence[str] = ()
    """Names of the attacks, which hostile contributors take in turn."""
    train_s: float = 0.0
    """Seconds that the median contributor trains."""
    deadline_s: float = 60.0
    """Deadline of a round, which late contributors miss."""
    seed: int = 0

    def contributors(self) -> list[Contributor]:
        """Return everybody, in the order of their numbers."""
        rng = random.Random(f"{self.seed}/contributors")  # noqa: S311 - a simulation, not a secret
        order = list(range(self.num_contributors))
        rng.shuffle(order)
        num_hostile = round(self.faults.malicious * self.num_contributors) if self.attacks else 0
        num_late = round(self.faults.late * self.num_contributors)
        attacks = {number: self.attacks[place % len(self.attacks)] for place, number in enumerate(order[:num_hostile])}
        late = set(order[num_hostile : num_hostile + num_late])
        return [
            Contributor(
                number=number, name=f"virtual-{number:05d}", slowness=rng.lognormvariate(0, _SPEED_SPREAD),
                is_late=number in late, attack=attacks.get(number),
            )
            for number in range(self.num_contributors)
        ]  # fmt: skip

    def visits(self, contributors: Sequence[Contributor], round_number: int) -> Iterator[Visit]:
        """Yield what everybody does in a round."""
        rng = random.Random(f"{self.seed}/round/{round_number}")  # noqa: S311 - a simulation, not a secret
        crashes = self._crashes(rng)
        for contributor in contributors:
            after_s = min(self.train_s * contributor.slowness, _ON_TIME * self.deadline_s)
            late_s = self.deadline_s * rng.uniform(*_LATE)
            crash = crashes.get(contributor.number)
            comes_back = rng.random() < _RETURNS
            pause_s = rng.uniform(0.02, 0.1) * self.deadline_s
            yield Visit(
                contributor=contributor, round=round_number, after_s=late_s if contributor.is_late else after_s,
                crash=crash, returns_after_s=pause_s if crash and comes_back else None,
            )  # fmt: skip

    def _crashes(self, rng: random.Random) -> Mapping[int, CrashPoint]:
        num_crashes = round(self.faults.crash * self.num_contributors)
        points = list(CrashPoint)
        return {number: rng.choice(points) for number in rng.sample(range(self.num_contributors), num_crashes)}
