"""Signed federations with a gate and evaluators, on hand-made models and suites that a matrix answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from gated import MODEL, SignSuite, lesson, score
from rooted import Enrolling, make_keys
from tiny_rounds import make_contribution, receive, write_model

from coldfuse.aggregator.examining import SuiteExaminer
from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.round import LeaderEvent
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import encode
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.evaluator.folder import EvaluatorFolder
from coldfuse.evaluator.node import Evaluator
from coldfuse.gateway import Gateway, StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.round_clock import RoundClock
from coldfuse.registry.scores import waiting_of
from coldfuse.storage import LocalStore, ObjectStore, open_store
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.score import Score, sign_score


@dataclass
class EvaluatedFederation(Enrolling):
    """A federation with contributors and evaluators, and everybody's keys."""

    path: Path
    gate: GateRules = field(default_factory=GateRules)
    quorum: int = 3
    evaluators: tuple[str, ...] = ("eva", "ivo")
    contributors: tuple[str, ...] = ("ada", "ben", "cy")
    url: str = ""
    """Where its store is; a folder below `path` by default."""
    keys: FounderKeys = field(default_factory=make_keys)
    invites: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = open_store(self.url) if self.url else LocalStore(self.path / "store")
        self.federation: Federation = create_federation(
            self.store, name="gated", base=write_model(self.path / "base", MODEL), origin="base", method="mean",
            rules={"quorum": self.quorum, "deadline_s": 3600.0}, trust=self.keys, screening=ScreeningRules.off(),
            gate=self.gate,
        )  # fmt: skip
        self.identities: dict[str, Identity] = {}
        for role, names in (("contributor", self.contributors), ("evaluator", self.evaluators)):
            self.invite(*names, role=role)  # type: ignore[arg-type]
            self.identities |= {name: self.join(name) for name in names}
        self.said: list[str] = []
        self.now_s = 0.0
        self._clocks: dict[int, RoundClock] = {}

    def send(self, name: str, share: float, *, seed: int = 0) -> str:
        """Contribute a delta that learns so much, signed."""
        manifest = make_contribution(self.federation, name, lesson(share, seed=seed))
        signature = self.identities[name].sign(encode(manifest), "contribution")
        return receive(self.federation, manifest, at_s=time.time(), signature=signature)

    def send_all(self, **shares: float) -> dict[str, str]:
        return {name: self.send(name, share, seed=place) for place, (name, share) in enumerate(sorted(shares.items()))}

    def restart(self, store: ObjectStore) -> None:
        """Go on as an aggregator that has just started on this store, and knows nothing."""
        self.federation = open_federation(store, signer=self.keys.signer)
        self._clocks = {}

    def lead(
        self, number: int = 1, *, examiner: SuiteExaminer | None = None, most: int | None = None
    ) -> list[LeaderEvent]:
        """Advance a round until it waits or is over, or so many steps at most."""
        clock = self._clocks.setdefault(number, RoundClock(lambda: self.now_s))
        round_ = Round(
            federation=self.federation, journal=self.federation.journal(number),
            base=open_base(self.federation, self.federation.latest()), executor=ThreadExecutor(1), now_s=time.time,
            clock=clock, examiner=examiner,
        )  # fmt: skip
        events: list[LeaderEvent] = []
        steps = 0
        while (most is None or steps < most) and (new := advance(round_)):
            events, steps = [*events, *new], steps + 1
        return events

    def until_asked(self, number: int = 1, **shares: float) -> list[LeaderEvent]:
        """Lead a round until its candidate waits for evaluators."""
        self.lead(number)
        self.send_all(**(shares or {"ada": 0.3, "ben": 0.2, "cy": 0.25}))
        return self.lead(number)

    def gateway(self, name: str, *, over: Gateway | None = None) -> TrustedGateway:
        gateway = over or StoreGateway(Federation(self.store, self.federation.settings))
        return TrustedGateway(gateway, anchor=self.keys.fingerprint, identity=self.identities[name])

    def evaluator(self, name: str, *suites: SignSuite, over: Gateway | None = None, noise: float = 0.0) -> Evaluator:
        """Make an evaluator with a folder of its own, as it is after any start."""
        return Evaluator(
            gateway=self.gateway(name, over=over), identity=self.identities[name],
            suites=suites or (SignSuite("signs", seed=3),),  # type: ignore[arg-type]
            folder=EvaluatorFolder(self.path / f"{name}-evaluator"), say=self.said.append, score=score, noise=noise,
        )  # type: ignore[arg-type]  # fmt: skip

    def word(
        self, name: str, *, before: int, after: int, of: int = 2000, number: int = 0, **different: object
    ) -> bytes:
        """Sign counts on the candidate that waits, whatever is true."""
        waiting = waiting_of(1, self.federation.journal(1).led())
        assert waiting is not None
        counts = (SuiteCounts(suite="signs", evaluator=name, num_examples=2000, only_before=before, only_after=after),)
        values: dict[str, object] = {
            "federation": self.keys.fingerprint, "member": name, "round": 1, "manifest": waiting.manifest,
            "base_digest": waiting.base_digest, "counts": counts, "scored_at_s": time.time(), "number": number,
        }  # fmt: skip
        return sign_score(Score.model_validate(values | different), self.identities[name])
