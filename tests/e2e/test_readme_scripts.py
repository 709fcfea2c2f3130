"""The README's scripts of people's own, as printed: the plain one runs, and with the new lines it takes part."""

from __future__ import annotations

import ast
import builtins
import csv
import sys
import types
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from own_training import aggregating, federation_of, write_tensors
from tiny_model import write_tiny_model
from tiny_texts import rows_of, write_json_lines, write_text_model

from coldfuse.registry.federation import Federation
from coldfuse.transport.server import serve_gateway

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import datasets
    from transformers.utils import logging

    for library in ("peft", "trl"):  # the scripts import them
        import_module(library)

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

README = (Path(__file__).parents[2] / "README.md").read_text()
CHATML = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def scripts() -> list[str]:
    return [block.partition("\n```")[0] for block in README.split("```diff\n")[1:]]


def side(script: str, sign: str) -> str:
    """Return one side of a pair: the lines of both, and those of its own."""
    return "\n".join(line[1:] for line in script.splitlines() if not line or line[0] in (" ", sign))


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)


def train(model: Linear, rows: list[torch.Tensor]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.head(model.body(torch.stack(rows))).square().mean().backward()
    optimizer.step()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    logging.disable_progress_bar()
    return tmp_path


def takes_part(script: str, held: Federation) -> None:
    """Run both sides of a pair; TRL, which takes a GPU for granted, is told that there is none."""
    script = script.replace('SFTConfig("checkpoints"', 'SFTConfig("checkpoints", use_cpu=True')
    exec(side(script, "-"), {})
    with aggregating(held), serve_gateway(held) as gateway:
        exec(side(script, "+").replace("127.0.0.1:7700", gateway.address), {})


def contributors(held: Federation) -> list[tuple[str, int]]:
    releases = range(1, held.latest().release + 1)
    return [(c.contributor, c.num_examples) for n in releases for c in held.release(n).contributions]


def test_a_trainer_takes_part(here: Path) -> None:
    held = federation_of(here, write_tiny_model(here / "my-model", num_layers=1))
    with open("reviews.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("text", "label"), *((f"the film was {w}", n % 2) for n, w in enumerate(["bad", "good"] * 6))]
        )
    takes_part(scripts()[0], held)
    assert contributors(held) == [("alice", 12)] * 2


def test_a_lora_of_trl_takes_part(here: Path) -> None:
    held = federation_of(here, write_text_model(here / "my-model", "llama", chat_template=CHATML))
    write_json_lines(Path("chats.jsonl"), rows_of("instructions")[:8])
    takes_part(scripts()[1], held)
    assert contributors(held) == [("alice", 8)] * 2


def test_a_loop_takes_part(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = federation_of(here, write_tensors(here / "base", {"body.weight": torch.eye(4), "body.bias": torch.ones(4)}))
    mine: Any = types.ModuleType("my_code")
    mine.MyModel, mine.train, mine.rows = Linear, train, [torch.ones(4)] * 3
    monkeypatch.setitem(sys.modules, "my_code", mine)
    takes_part(scripts()[2], held)
    assert contributors(held) == [("alice", 3)]


def test_no_script_takes_a_name_of_pythons_own() -> None:
    """A global `round` would be called by what rounds the metrics in people's compute_metrics."""
    for script in scripts():
        names = {n.id for n in ast.walk(ast.parse(side(script, "+"))) if isinstance(n, ast.Name)
                 and isinstance(n.ctx, ast.Store)}  # fmt: skip
        assert not names & set(dir(builtins)) - {"_"}  # which an interpreter sets


def test_a_trainer_takes_part_by_three_lines() -> None:
    for script in scripts()[:2]:
        assert sum(line.startswith("+") for line in script.splitlines()) == 3
