"""Edits through rounds on a real, tiny GPT-2 that knows some proverbs: applied, refused with the reason, retracted."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from edited import changes_of, edit_rows, right_answers, train_edit, write_edit, write_knowing_model
from retracted_rounds import take_out, verified
from tiny_rounds import contribute, make_round, read_release
from typer.testing import CliRunner

from coldfuse.aggregator.examining import SuiteExaminer, write_release
from coldfuse.aggregator.round import advance
from coldfuse.cli.main import app
from coldfuse.core.gate_rules import GateDecision, GateRules
from coldfuse.core.gating import Evaluated
from coldfuse.core.round import Abandoned, LeaderEvent, Published, Rejected
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.evaluation.suites import Suite
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.verification.causes import Cause
from coldfuse.verification.gate import gate_problems
from coldfuse.verification.journals import SeenRound

FACTS = [index for index, row in enumerate(edit_rows()) if row["kind"] != "keep"]
KEPT = [index for index, row in enumerate(edit_rows()) if row["kind"] == "keep"]


@dataclass(frozen=True)
class Scene:
    """A base, and a fact to change."""

    base: Path
    file: Path
    edit: dict[str, np.ndarray]
    """What changes the fact and little else."""

    @property
    def suite(self) -> Suite:
        return read_named_suite(SuiteFiles.parse(f"fortune:edit={self.file}"))

    def federation(self, folder: Path, **rules: object) -> Federation:
        return create_federation(
            LocalStore(folder / "store"), name="tiny", base=self.base, origin="base", method="mean",
            rules={"quorum": 1, "deadline_s": 60.0}, screening=ScreeningRules.off(),
            gate=GateRules.model_validate(rules),
        )  # fmt: skip

    def lead(self, federation: Federation, number: int = 1, *, now_s: float = 0.0) -> list[LeaderEvent]:
        round_ = replace(make_round(federation, number, now_s=now_s), examiner=SuiteExaminer([self.suite]))
        events: list[LeaderEvent] = []
        while new := advance(round_):
            events += new
        return events

    def answers(self, federation: Federation, folder: Path) -> list[bool]:
        folder.mkdir()
        write_release(federation, federation.latest(), folder)
        return right_answers(folder, self.file)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("edits")
    base, file = write_knowing_model(folder / "base", "gpt2"), write_edit(folder / "fortune.jsonl")
    return Scene(base=base, file=file, edit=changes_of(base, train_edit(base, file)))


def nothing_much(scene: Scene, seed: int) -> dict[str, np.ndarray]:
    """Return a delta that changes no answer."""
    name = "transformer.wpe.weight"
    shape = scene.edit[name].shape
    return {name: (np.random.default_rng(seed).normal(size=shape) * 1e-4).astype(np.float32)}


def breaking(scene: Scene) -> dict[str, np.ndarray]:
    """Return an edit that has the model say the new answer whatever it is asked: nothing else stays."""
    name = "transformer.ln_f.bias"
    return scene.edit | {name: scene.edit[name] + 20 * towards_the_answer(scene)}


def towards_the_answer(scene: Scene) -> np.ndarray:
    from safetensors.numpy import load_file

    from coldfuse.training.loading import load_tokenizer

    tokens = load_tokenizer(scene.base)(" wise", add_special_tokens=False)["input_ids"]
    rows = load_file(scene.base / "model.safetensors")["transformer.wte.weight"][tokens].mean(axis=0)
    return (rows / np.linalg.norm(rows)).astype(np.float32)


def test_an_edit_is_applied_and_journal_and_release_say_what_was_edited_and_how_it_scored(
    scene: Scene, tmp_path: Path
) -> None:
    before = right_answers(scene.base, scene.file)
    assert [before[i] for i in FACTS] == [False] * len(FACTS)
    assert all(before[i] for i in KEPT)
    federation = scene.federation(tmp_path)
    scene.lead(federation)
    contribute(federation, "edda", scene.edit, edit="fortune")
    events = scene.lead(federation)
    assert isinstance(events[-1], Published)
    found = next(event for event in events if isinstance(event, Evaluated))
    assert [(one.suite, one.part) for one in found.counts] == [
        ("fortune.edit", "edit"), ("fortune.paraphrase", "paraphrase"), ("fortune.keep", "keep")
    ]  # fmt: skip
    assert "edit fortune: 1 of 1 prompts of the edit, 2 of 2 paraphrases, 12 of 12 kept" in found.decision.reason
    assert [one.edit for one in federation.latest().contributions] == ["fortune"]
    assert all(scene.answers(federation, tmp_path / "now"))
    assert [each for each in verified(federation, recompute=False).findings if each.cause is not Cause.UNSIGNED] == []


def test_an_edit_that_breaks_its_neighbourhood_is_refused_and_the_round_goes_on(scene: Scene, tmp_path: Path) -> None:
    federation = scene.federation(tmp_path)
    scene.lead(federation)
    contribute(federation, "ada", nothing_much(scene, 1))
    broken = contribute(federation, "eve", breaking(scene), edit="fortune")
    events = scene.lead(federation)
    (rejection,) = (each for event in events if isinstance(event, Rejected) for each in event.rejections)
    assert rejection.contribution == broken
    failed = next(event for event in events if isinstance(event, Evaluated))
    assert (failed.decision.finding, failed.decision.suites) == ("worse", ("fortune.keep",))
    assert failed.counts[2].only_before > 6
    assert f"fortune.keep: {failed.counts[2].only_before} right only before, 0 only after, of 12" in rejection.reason
    assert isinstance(events[-1], Published)
    assert [one.contributor for one in federation.latest().contributions] == ["ada"]
    assert [each for each in verified(federation, recompute=False).findings if each.cause is not Cause.UNSIGNED] == []


def test_an_edit_that_does_not_take_is_dropped_and_says_what_is_asked_for(scene: Scene, tmp_path: Path) -> None:
    federation = scene.federation(tmp_path)
    scene.lead(federation)
    contribute(federation, "ada", nothing_much(scene, 1))
    weak = contribute(federation, "edda", nothing_much(scene, 2), edit="fortune")
    events = scene.lead(federation)
    (rejection,) = (each for event in events if isinstance(event, Rejected) for each in event.rejections)
    assert rejection.contribution == weak
    assert "0 of 1 prompts of the edit, 90 % must be right" in rejection.reason
    assert next(event.decision.finding for event in events if isinstance(event, Evaluated)) == "edit-fails"
    assert isinstance(events[-1], Published)


def test_an_edit_of_which_no_suite_is_known_is_refused_and_alone_leaves_the_base(scene: Scene, tmp_path: Path) -> None:
    federation = scene.federation(tmp_path)
    scene.lead(federation)
    contribute(federation, "edda", scene.edit, edit="capital")
    events = scene.lead(federation)
    (rejection,) = (each for event in events if isinstance(event, Rejected) for each in event.rejections)
    assert "nobody judges it" in rejection.reason
    assert isinstance(events[-1], Abandoned)
    assert federation.latest().release == 0


def test_who_publishes_an_edit_that_fails_by_its_own_counts_is_found_out(scene: Scene, tmp_path: Path) -> None:
    federation = scene.federation(tmp_path)
    events = scene.lead(federation)
    contribute(federation, "edda", nothing_much(scene, 2), edit="fortune")
    events += scene.lead(federation)
    state = federation.journal(1).state()
    assert list(gate_problems(SeenRound(number=1, events=tuple(events), state=state))) == []
    lie = [
        each.model_copy(update={"decision": GateDecision(publish=True, finding="unsure", reason="")})
        if isinstance(each, Evaluated)
        else each
        for each in events
    ]
    ((cause, said),) = gate_problems(SeenRound(number=1, events=tuple(lie), state=state))
    assert cause is Cause.CONTRADICTION
    assert "it is edit-fails (kept back)" in said


def test_retracted_the_old_fact_is_back_to_the_same_bytes_as_never_having_had_it(scene: Scene, tmp_path: Path) -> None:
    edited, other = scene.federation(tmp_path / "a"), scene.federation(tmp_path / "b")
    scene.lead(edited)
    digest = contribute(edited, "edda", scene.edit, edit="fortune")
    scene.lead(edited, now_s=9.0)
    for federation, number in ((edited, 2), (other, 1)):
        scene.lead(federation, number)
        contribute(federation, "ada", nothing_much(scene, 1))
        assert isinstance(scene.lead(federation, number, now_s=90.0)[-1], Published)
    assert all(scene.answers(edited, tmp_path / "edited"))
    take_out(edited, digest)
    assert edited.latest().model_digest == other.latest().model_digest
    assert {name: tensor.data for name, tensor in read_release(edited).items()} == {
        name: tensor.data for name, tensor in read_release(other).items()
    }
    after = scene.answers(edited, tmp_path / "after")
    assert [after[i] for i in FACTS] == [False] * len(FACTS)
    assert all(after[i] for i in KEPT)


def test_the_command_says_efficacy_paraphrases_and_locality_of_models(scene: Scene, tmp_path: Path) -> None:
    federation = scene.federation(tmp_path)
    scene.lead(federation)
    contribute(federation, "edda", scene.edit, edit="fortune")
    scene.lead(federation)
    (tmp_path / "edited").mkdir()
    write_release(federation, federation.latest(), tmp_path / "edited")
    said = CliRunner().invoke(app, [
        "evaluate", str(scene.base), str(tmp_path / "edited"), "--suite", f"edit:{scene.file}", "--json",
        "--work", str(tmp_path / "work"),
    ])  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    scores = {row["data"]: [] for row in found["scores"]}
    for row in found["scores"]:
        scores[row["data"]].append(row["mean"])
    assert scores == {
        "fortune → efficacy": [0.0, 1.0], "fortune → paraphrases": [0.0, 1.0], "fortune → locality": [1.0, 1.0]
    }  # fmt: skip
    assert {data["metric"] for data in found["data"]} == {"right answers"}


def test_a_suite_of_edits_is_refused_on_a_base_that_says_nothing(tmp_path: Path) -> None:
    from tiny_texts import write_text_model

    headless = write_text_model(tmp_path / "headless", "headless bert")
    said = CliRunner().invoke(app, [
        "evaluate", str(headless), "--suite", f"edit:{write_edit(tmp_path / 'e.jsonl')}", "--work",
        str(tmp_path / "work"),
    ])  # fmt: skip
    assert said.exit_code == 1
    assert "BertModel has no head that answers" in str(said.exception)
