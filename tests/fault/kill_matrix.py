"""Kill or stop one process of a running federation in each round, and see whether anything is lost.

    cd tests && python -m fault.kill_matrix FOLDER [--faults raylet:KILL:closed,gateway:KILL:opened] [--repeat N]

`coldfuse serve` runs a gateway and an aggregator on Ray; two contributors send through the gateway in turn.
In every round one fault strikes when the journal says its moment. The round has to end with the release that the same
contributions make where nobody is killed, and every acknowledged contribution has to have one verdict. A table says how
long each fault held its round up. What is stopped (STOP) is continued after three lives of a lease, but for Ray's own
processes: those stay stopped until somebody ends them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from commands import Process, coldfuse, is_alive, wait_until
from fault import sender
from tiny_rounds import Model, floats, lead, make_changes, receive, store_delta, write_model

from coldfuse.aggregator.model import open_base
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import blob_digest
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.objects import Objects
from coldfuse.storage import LocalStore

LEASE_S = 2.0
NAMES = ("ada", "ben")
MOMENTS = ("opened", "received", "admitted", "closed", "fused", "published")
_CONTRIBUTOR_S = 300.0
"""Seconds in which a contribution is acknowledged, however often its contributor is started again."""

RAYS = ("raylet", "gcs", "worker", "agent")
"""Victims that belong to Ray."""

MATRIX = [
    *(f"{victim}:KILL:{moment}" for victim in ("aggregator", "raylet", "gcs") for moment in MOMENTS),
    *(f"worker:KILL:{moment}" for moment in MOMENTS[1:]),  # without a task Ray may have none
    *(f"gateway:KILL:{moment}" for moment in ("opened", "received", "closed")),
    *("agent:KILL:opened", "agent:KILL:closed", "contributor:KILL:opened", "contributor:KILL:received"),
    *(f"{victim}:STOP:closed" for victim in ("raylet", "gcs", "worker", "agent", "aggregator", "gateway")),
    *("raylet:STOP:opened", "gcs:STOP:opened", "aggregator:STOP:fused", "aggregator:STOP:published"),
]
"""Victim, signal and moment of every fault. A moment is when the round's journal has the entry."""


@dataclass(frozen=True)
class Fault:
    """What is done to whom, and when."""

    victim: str
    signal: signal.Signals
    moment: str

    @classmethod
    def parse(cls, text: str) -> Fault:
        victim, name, moment = text.split(":")
        return cls(victim, signal.Signals[f"SIG{name}"], moment)

    def __str__(self) -> str:
        return f"{self.victim}:{self.signal.name.removeprefix('SIG')}:{self.moment}"


@dataclass(frozen=True)
class Outcome:
    """What a fault did to its round."""

    fault: Fault
    struck: tuple[int, ...]
    """Process ids of those that were struck, and that were seen to end or to stand still."""
    took_s: float
    """Seconds from the strike to the release; not above 0 where the release was out before the strike had landed."""
    restarts: int
    """Lines with which `serve` said that it starts something again."""


def make_base() -> Model:
    rng = np.random.default_rng(0)
    return {f"layer{i:02d}.weight": floats(rng.normal(size=(128, 256))) for i in range(24)}


def make_federation(folder: Path) -> Federation:
    base = write_model(folder / "base", make_base(), num_files=24)
    rules = {"quorum": len(NAMES), "deadline_s": 3600.0}
    store = LocalStore(folder / "store")
    return create_federation(store, name="matrix", base=base, origin="made by a test", method="mean", rules=rules)


def manifest_of(federation: Federation, own: Objects, number: int, name: str) -> ContributionManifest:
    """Make what a contributor sends in a round; its parts are put into a store of its own."""
    changes = make_changes(make_base(), 10 * number + NAMES.index(name))
    release = federation.latest()
    schema = open_base(federation, release).schema
    delta = store_delta(own, schema, changes, encoding="F32", base_digest=release.model_digest)
    return ContributionManifest(
        federation=federation.settings.federation, contributor=name, round=number, base_release=release.release,
        base_digest=release.model_digest, encoding="F32", num_examples=100, num_steps=10, delta=delta,
        delta_digest=blob_digest(delta),
    )  # fmt: skip


def replay(folder: Path, num_rounds: int) -> list[str]:
    """Play the rounds where nobody is killed; return the digests of the releases."""
    federation, digests = make_federation(folder), []
    for number in range(1, num_rounds + 1):
        lead(federation, number)
        for name in NAMES:
            receive(federation, manifest_of(federation, federation.objects, number, name))
        lead(federation, number)
        digests.append(federation.latest().model_digest)
    return digests


class Field:
    """A federation under `coldfuse serve`, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.federation = make_federation(folder)
        self.folder = folder
        self.own = Objects(LocalStore(folder / "own"))
        options = ("--workers", 2, "--lease", f"{LEASE_S}s", "--listen", "127.0.0.1:0")
        self.server: Process = coldfuse("serve", self.federation.store.url, *options)
        line = self.server.wait_for(lambda line: line.startswith("listening on "))
        self.address = line.removeprefix("listening on ")
        self.contributors: list[Process] = []
        self.acknowledged: set[str] = set()

    def find(self, victim: str) -> list[psutil.Process]:
        """Return the running processes that a victim's name stands for."""
        if victim == "contributor":
            return [psutil.Process(one.pid) for one in self.contributors if psutil.pid_exists(one.pid)]
        is_it: dict[str, Callable[[str, list[str]], bool]] = {
            "gateway": lambda name, words: "gateway" in words,
            "aggregator": lambda name, words: "--unsupervised" in words,
            "raylet": lambda name, words: name == "raylet",
            "gcs": lambda name, words: name == "gcs_server",
            "agent": lambda name, words: "Agent" in name,
            "worker": lambda name, words: name.startswith("ray::") and "Agent" not in name,
        }
        found = []
        for process in psutil.Process(self.server.pid).children(recursive=True):
            try:
                if is_it[victim](process.name(), process.cmdline()) and is_alive(process):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def contribute(self, manifest: ContributionManifest) -> Process:
        """Start a contributor; it is started again until its contribution is acknowledged."""
        path = self.folder / f"{manifest.contributor}-{manifest.round}.json"
        path.write_text(manifest.model_dump_json())
        script = (sys.executable, sender.__file__, self.address, self.folder / "own", path)
        self.contributors = [Process(*script)]
        return self.contributors[0]

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        family = psutil.Process(self.server.pid).children(recursive=True)
        self.server.send(signal.SIGTERM)
        self.server.wait()
        _, left = psutil.wait_procs(family, timeout=20)
        left = [process for process in left if is_alive(process)]
        for process in left:
            process.kill()
        assert not left, f"left behind: {left}"


def play(field: Field, number: int, fault: Fault) -> Outcome:
    """Play a round with a fault."""
    federation, journal = field.federation, field.federation.journal(number)
    struck: list[tuple[float, list[int]]] = []
    restarts = count_restarts(field)
    stopped = threading.Event()
    watcher = threading.Thread(target=lambda: struck.append(strike_when(field, journal, fault, stopped)), daemon=True)
    wait_until(lambda: journal.head() is not None, f"round {number} to open; {field.server}", limit_s=300)
    if fault.victim != "contributor":
        watcher.start()
    if fault.moment == "opened" and fault.victim != "contributor":
        watcher.join(60)  # it strikes before anything is sent
    for index, name in enumerate(NAMES):
        manifest = manifest_of(federation, field.own, number, name)
        contributor = field.contribute(manifest)
        if fault.victim == "contributor" and index == (fault.moment != "opened"):
            watcher.start()
            watcher.join(60)
        give_up = time.monotonic() + _CONTRIBUTOR_S
        while contributor.wait() != 0:
            assert time.monotonic() < give_up, contributor
            contributor = field.contribute(manifest)
        field.acknowledged.add(contributor.lines[-1])
    wait_until(lambda: federation.latest().release == number, f"release {number}; {fault}; {field.server}", limit_s=300)
    ended = time.monotonic()
    watcher.join(60)
    stopped.set()
    [(at, pids)] = struck
    assert pids, f"{fault} found nobody"
    return Outcome(fault, tuple(pids), ended - at, count_restarts(field) - restarts)


def strike_when(field: Field, journal, fault: Fault, over: threading.Event) -> tuple[float, list[int]]:
    """Strike once the journal has the entry, and make sure that it landed."""
    if fault.victim != "contributor":
        wait_until(lambda: has(journal, fault.moment), f"{fault.moment} of round {journal.round}", limit_s=300)
    wait_until(lambda: field.find(fault.victim), f"a {fault.victim}", limit_s=300)
    victims = field.find(fault.victim)
    if fault.victim == "worker":
        victims = sorted(victims, key=lambda one: "IDLE" in one.name())[:1]  # one that has a task, if there is one
    at = time.monotonic()
    for victim in victims:
        victim.send_signal(fault.signal)
    if fault.signal is signal.SIGKILL:  # not by waiting for them: a contributor's status is read by `play`
        wait_until(lambda: not any(map(is_alive, victims)), f"the end of {victims}")
    else:
        wait_until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in victims), f"{victims} to stop")
        if fault.victim not in RAYS:
            threading.Timer(3 * LEASE_S, lambda: [one.send_signal(signal.SIGCONT) for one in victims]).start()
    return at, [victim.pid for victim in victims]


def has(journal, moment: str) -> bool:
    state = open_federation(journal._store).journal(journal.round).state()
    return bool(state.received) if moment == "received" else bool(getattr(state, moment))


def count_restarts(field: Field) -> int:
    return sum("starting it again" in line for line in list(field.server.errors))


def check(field: Field, num_rounds: int, folder: Path) -> None:
    """Nothing acknowledged is missing, nothing has two verdicts, and all releases are those of an undisturbed run."""
    verdicts: list[str] = []
    for number in range(1, num_rounds + 1):
        state = field.federation.journal(number).state()
        assert not state.waiting, number
        verdicts += [*state.admitted, *state.rejected]
        assert set(state.closed.contributions) == set(state.admitted), number
    assert sorted(verdicts) == sorted(field.acknowledged)
    releases = [field.federation.release(number).model_digest for number in range(1, num_rounds + 1)]
    assert releases == replay(folder, num_rounds)


def run(folder: Path, faults: Sequence[Fault]) -> Iterator[Outcome]:
    """Play a round for every fault, and check all of them in the end."""
    with Field(folder / "field") as field:
        for number, fault in enumerate(faults, 1):
            yield play(field, number, fault)
        check(field, len(faults), folder / "calm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--faults", default=",".join(MATRIX))
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args()
    faults = [Fault.parse(text) for text in given.faults.split(",")] * given.repeat
    print("| fault | processes struck | seconds to the release | started again by `serve` |\n|---|---|---|---|")
    for outcome in run(given.folder, faults):
        print(f"| {outcome.fault} | {len(outcome.struck)} | {outcome.took_s:.1f} | {outcome.restarts} |", flush=True)
    said = "each has one verdict, and all releases are those of a run without faults"
    print(f"\n{len(faults)} faults, {2 * len(faults)} acknowledged contributions: {said}")


if __name__ == "__main__":
    main()
