"""The models that an experiment speaks of, as values: what each was made of. Its name on the disk follows from that.

pretrained   the base that all begin with
tuned        what a contributor's training made of a model: a delta
fused        the next base: a model moved along the fused deltas of a round
gated        the next base where the gate lets it pass, else the base before
averaged     the exponential moving average of releases, φ_t = k φ_{t−1} + (1 − k) θ_t
pooled       multitask training: a model trained on the examples of several data sets together
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

from coldfuse.experiments.paper.protocol import Share
from coldfuse.experiments.paper.values import Attack
from coldfuse.fusion.method import Statistic


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is made of others. Two that are made of the same have the same name."""

    @cached_property
    def name(self) -> str:
        """Digest of all that it is made of."""
        return _digest([type(self).__name__, self._made_of()])

    def _made_of(self) -> object:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Pretrained(Model):
    """The base that all begin with."""

    digest: str
    """Its model digest."""
    how: str
    """How everything is trained that is made of it."""

    def _made_of(self) -> object:
        return [self.digest, self.how]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a contributor trains."""

    epochs: int
    objectives: tuple[str, ...] = ()
    seed: int
    round: int


@dataclass(frozen=True, kw_only=True)
class Tuned(Model):
    """What a contributor sends."""

    start: Model
    share: Share
    data: str
    """Digest of the data set."""
    training: Training
    attack: Attack | None = None
    """What it sends instead of what it learnt; None for an honest one."""
    statistic: Statistic | None = None
    """Kind of the statistics that go with it; None for none."""

    def _made_of(self) -> object:
        own = [asdict(self.share), self.data, asdict(self.training), self.attack, self.statistic]
        return [self.start.name, own]


@dataclass(frozen=True, kw_only=True)
class Fused(Model):
    """A release: the base of the next round."""

    start: Model
    tuned: tuple[Tuned, ...]
    recipe: str

    def _made_of(self) -> object:
        return [self.start.name, [item.name for item in self.tuned], self.recipe]


@dataclass(frozen=True, kw_only=True)
class Gated(Model):
    """A release that a gate has asked for: the candidate where it is better on seen data, else its base."""

    before: Model
    candidate: Model
    shares: tuple[Share, ...]
    """Examples of each seen data set that a probe is fitted on; it is asked about the set's validation examples."""
    data: tuple[str, ...]
    """Digest of each of these data sets."""

    def _made_of(self) -> object:
        shares = [[asdict(share), data] for share, data in zip(self.shares, self.data, strict=True)]
        return [self.before.name, self.candidate.name, shares]


@dataclass(frozen=True, kw_only=True)
class Averaged(Model):
    """The average of the releases so far."""

    before: Model
    latest: Model
    keep: float
    """Share that the average before has."""

    def _made_of(self) -> object:
        return [self.before.name, self.latest.name, self.keep]


@dataclass(frozen=True, kw_only=True)
class Pooled(Model):
    """A model that was trained on the examples of several data sets together, each with a head of its own."""

    start: Model
    shares: tuple[Share, ...]
    data: tuple[str, ...]
    """Digest of each share's data set."""
    training: Training

    def _made_of(self) -> object:
        shares = [[asdict(share), data] for share, data in zip(self.shares, self.data, strict=True)]
        return [self.start.name, shares, asdict(self.training)]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
