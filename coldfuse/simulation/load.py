"""A federation under load: everything started, watched until its rounds are over, and looked through afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.core.federation import Late, RoundRules
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.simulation import report
from coldfuse.simulation.attacks import ATTACKS
from coldfuse.simulation.audit import Audit, audit, count_files
from coldfuse.simulation.crowd import Idle, Share, crowd_process
from coldfuse.simulation.deltas import write_base
from coldfuse.simulation.plan import Crowd
from coldfuse.simulation.report import LoadReport, Sample
from coldfuse.simulation.servers import Aggregation, Happening, Server, aggregator_process, gateway_process
from coldfuse.simulation.visit import End, Outcome
from coldfuse.storage import open_store
from coldfuse.tensors.checkpoint import open_checkpoint

_SAMPLE_S = 1.0
_CROWD_OF = 500
"""Contributors of one process of the crowd, about."""
_SLACK_S = 15.0
"""Seconds beyond its deadline after which a round counts as stuck: one look at what came last, by workers that may only
be starting."""
_PATIENCE_S = 60.0
"""Seconds that are waited for a round, and for the last verdicts, beyond what they should take."""


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """What is simulated."""

    crowd: Crowd = field(default_factory=lambda: Crowd(num_contributors=100))
    num_rounds: int = 2
    store: str | None = None
    """Folder or s3:// url that holds no federation, and is left as it ends up; None: a temporary folder."""
    method: str = "mean"
    quorum: int | None = None
    """Admitted contributions that let a round close; None: as many as come on time, are honest and do not crash."""
    grace_s: float = 0.0
    """Seconds that a round stays open at least, whoever has come; as long as the deadline, and it closes on that."""
    late: Late = "drop"
    """What becomes of who comes late."""
    screening: ScreeningRules = field(default_factory=ScreeningRules)
    """Rules by which contributions are compared with each other."""
    shared_delta: bool = False
    """True where everybody sends the same delta, which strict screening would reject: what is left is the control path
    of manifests, verdicts and the journal."""
    num_parameters: int = 100_000
    """Size of the made-up model."""
    base: Path | None = None
    """A model folder to use instead of a made-up model."""
    num_gateways: int = 2
    clients: int = 32
    """Contributors that are at it at a time."""
    aggregation: Aggregation = field(default_factory=Aggregation)

    @property
    def rules(self) -> RoundRules:
        """Rules of the federation."""
        return RoundRules(
            quorum=self.quorum or self._expected(), deadline_s=self.crowd.deadline_s, grace_s=self.grace_s,
            late=self.late,
        )  # fmt: skip

    def _expected(self) -> int:
        faults = self.crowd.faults
        share = max(1 - faults.malicious - faults.late, 0) * (1 - faults.crash)
        return max(int(share * self.crowd.num_contributors), 1)


def simulate_load(settings: LoadSettings, callback: Callable[[str], None] = lambda _: None) -> LoadReport:
    """Run a federation with virtual contributors until its rounds are over, and report.

    Args:
        settings: What is simulated.
        callback: Called with a line about what happens, as it happens.

    Raises:
        UserInputError: The store holds a federation, or an attack needs data to train on.
        ColdfuseError: A server could not be started, or ended.
    """
    for name in settings.crowd.attacks:
        if name not in ATTACKS or ATTACKS[name].craft is None or ATTACKS[name].poison:
            able = [known for known, attack in ATTACKS.items() if attack.craft and not attack.poison]
            raise UserInputError(f"attack {name}: without data to train on, expected one of {', '.join(able)}")
    with TemporaryDirectory(prefix="simulate-") as scratch:
        base = settings.base or write_base(Path(scratch, "base"), settings.num_parameters, seed=settings.crowd.seed)
        store = open_store(settings.store or str(Path(scratch, "store")))
        federation = create_federation(
            store, name="simulation", base=base, origin=str(base.name), method=settings.method,
            rules=settings.rules.model_dump(), screening=settings.screening,
        )  # fmt: skip
        return _Run(settings, federation, base, callback).run()


@dataclass(frozen=True)
class _Cost:
    """What a server has done."""

    operations: Counter[str]
    cpu_s: float


class _Run:
    def __init__(
        self, settings: LoadSettings, federation: Federation, base: Path, callback: Callable[[str], None]
    ) -> None:
        self._settings, self._federation, self._callback = settings, federation, callback
        self._schema = open_checkpoint(base).schema
        self._began_s = time.monotonic()
        self._load_before = os.getloadavg()[0]
        self._files_before = count_files(federation.store)
        self._outcomes: list[Outcome] = []
        self._said = 0

    def run(self) -> LoadReport:
        url = self._federation.store.url
        with ExitStack() as stack:
            gateways = [stack.enter_context(gateway_process(url)) for _ in range(self._settings.num_gateways)]
            aggregator = stack.enter_context(aggregator_process(url, self._settings.aggregation))
            self._callback(f"{len(gateways)} gateways and an aggregator serve {url}")
            memory = stack.enter_context(_watched([*gateways, aggregator]))
            cpu_before = [server.cpu_s() for server in (*gateways, aggregator)]
            with ExitStack() as crowds:
                pipes = [crowds.enter_context(crowd_process(share)) for share in self._shares(gateways)]
                self._watch(pipes, aggregator)
            found = self._await_verdicts(aggregator)
            costs = [
                _Cost(Counter(server.counts()), server.cpu_s() - before)
                for server, before in zip((*gateways, aggregator), cpu_before, strict=True)
            ]
        return self._report(found, aggregator.happenings, costs, memory)

    def _shares(self, gateways: Sequence[Server]) -> Iterator[Share]:
        settings, crowd = self._settings, self._settings.crowd
        num_parts = min(max(crowd.num_contributors // _CROWD_OF, 1), os.cpu_count() or 1)
        for part in range(num_parts):
            yield Share(
                crowd=crowd, part=part, num_parts=num_parts, addresses=[server.address for server in gateways],
                schema=self._schema, num_rounds=settings.num_rounds, clients=max(settings.clients // num_parts, 1),
                shared_delta=settings.shared_delta,
            )  # fmt: skip

    def _watch(self, pipes: Sequence[Connection], aggregator: Server) -> None:
        """Collect outcomes until all rounds are over and everybody has come and gone."""
        idle: dict[Connection, int] = {}
        limit_s = self._began_s + self._settings.num_rounds * (2 * self._settings.crowd.deadline_s + _PATIENCE_S)
        while time.monotonic() < limit_s:
            self._listen(aggregator)
            over = sum(h.kind in ("published", "abandoned") for h in aggregator.happenings)
            if over >= self._settings.num_rounds and min(idle.values(), default=0) >= 1 and len(idle) == len(pipes):
                return
            for pipe in wait(list(pipes), timeout=0.2):
                self._hear(pipe, idle)
        self._callback("gave up waiting: a round does not end")

    def _hear(self, pipe: object, idle: dict[Connection, int]) -> None:
        if not isinstance(pipe, Connection):
            return
        try:
            said = pipe.recv()
        except EOFError:
            raise ColdfuseError("a process of the crowd ended; its last words are above") from None
        if isinstance(said, Idle):
            idle[pipe] = said.round
            return
        idle.pop(pipe, None)
        self._outcomes.append(said)

    def _listen(self, aggregator: Server) -> None:
        for happening in aggregator.listen()[self._said :]:
            self._said += 1
            if happening.kind == "admitted" and not happening.count:  # only says how old the round is
                continue
            count = f" {happening.count}" if happening.count else ""
            reason = f": {happening.reason}" if happening.reason else ""
            self._callback(f"round {happening.round}: {happening.kind}{count}{reason}")

    def _await_verdicts(self, aggregator: Server) -> Audit:
        """Look through the journals until all who were acknowledged have a verdict, or one does not come."""
        acknowledged = [o.contribution for o in self._outcomes if o.end is End.ACKNOWLEDGED]
        limit_s = time.monotonic() + _PATIENCE_S
        while not (found := audit(self._federation, acknowledged)).is_whole and time.monotonic() < limit_s:
            self._listen(aggregator)
            threading.Event().wait(0.5)
        self._listen(aggregator)
        return found

    def _report(
        self,
        found: Audit,
        happenings: Sequence[Happening],
        costs: Sequence[_Cost],
        memory: Mapping[str, Sequence[Sample]],
    ) -> LoadReport:
        happenings = [happening for happening in happenings if happening.round <= self._settings.num_rounds]
        crowd, outcomes = self._settings.crowd, self._outcomes
        good = [outcome for outcome in outcomes if outcome.end is End.ACKNOWLEDGED]
        per_one = 1 / max(len(good), 1)
        commits, visits = [o.commit_s for o in good if o.commit_s], [o.ended_s - o.began_s for o in good]
        everybody = crowd.contributors()
        return LoadReport(
            contributors=crowd.num_contributors,
            hostile=sum(c.attack is not None for c in everybody),
            late=sum(c.is_late for c in everybody),
            rounds=report.rounds_of(happenings, deadline_s=crowd.deadline_s, slack_s=_SLACK_S),
            ends=dict(Counter(outcome.end.value for outcome in outcomes)),
            audit=found,
            acknowledged_per_s=report.rate_of(outcomes, happenings),
            commit_p50_ms=report.percentile_ms(commits, 0.5),
            commit_p99_ms=report.percentile_ms(commits, 0.99),
            visit_p50_ms=report.percentile_ms(visits, 0.5),
            visit_p99_ms=report.percentile_ms(visits, 0.99),
            repeated=dict(sum((Counter(outcome.repeated) for outcome in outcomes), Counter())),
            gateway_operations=round(sum(cost.operations.total() for cost in costs[:-1]) * per_one, 1),
            aggregator_operations=round(costs[-1].operations.total() * per_one, 1),
            operations={
                "gateways": dict(sum((cost.operations for cost in costs[:-1]), Counter())),
                "aggregator": dict(costs[-1].operations),
            },
            gateway_cpu_ms=round(1000 * sum(cost.cpu_s for cost in costs[:-1]) * per_one, 1),
            aggregator_cpu_ms=round(1000 * costs[-1].cpu_s * per_one, 1),
            files=round((count_files(self._federation.store) - self._files_before) * per_one, 1),
            memory=tuple(report.thinned(name, samples) for name, samples in memory.items()),
            took_s=round(time.monotonic() - self._began_s, 1),
            cpus=os.cpu_count() or 1,
            load_before=round(self._load_before, 1),
        )


@contextmanager
def _watched(servers: Sequence[Server]) -> Iterator[Mapping[str, Sequence[Sample]]]:
    """Note every server's memory, every second."""
    samples: dict[str, list[Sample]] = {f"{server.name} {n}": [] for n, server in enumerate(servers, start=1)}
    stop, began_s = threading.Event(), time.monotonic()

    def watch() -> None:
        while True:
            for server, mine in zip(servers, samples.values(), strict=True):
                mine.append((time.monotonic() - began_s, server.memory_mib()))
            if stop.wait(_SAMPLE_S):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
