"""A base that is only pretrained: a small encoder, from random numbers, by masked language modelling.

The recipe is that of "cramming" (arXiv 2212.14034): no dropout, one pass up and down of the learning rate, a quarter of
the tokens hidden, texts packed into short full blocks, and predictions of the hidden tokens alone. The model is a small
ModernBERT (arXiv 2412.13663): its local attention sees few tokens to each side from the first step on, where a model
that attends to everything must first find its neighbours and stays for long at what the words' frequencies give away
(measured: perplexity 287 after 0.8 million tokens, where a BERT of the same size has 688). The loop is the
node's own, which checkpoints and resumes; the vocabulary is learnt of the same texts. Texts of data sets that are left
out are never read by it, nor any text of others that stands in one of those too: they stay unseen to the base.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from coldfuse.consumer import hold
from coldfuse.durable import write_whole
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.experiments.fusion_models import publish, write_model
from coldfuse.experiments.paper.about import about
from coldfuse.experiments.paper.corpus import Corpus
from coldfuse.experiments.paper.vocabulary import SPECIAL, write_tokenizer
from coldfuse.naming.building import quiet
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.checkpoint import discard_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, TrainingJob, TrainingProgress
from coldfuse.training.schedule import derive_seed
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks.masked_lm import MaskedLM
from coldfuse.training.tasks.rows import Rows
from coldfuse.training.tasks.task import TaskModel
from coldfuse.training.tasks.texts import Passage

_POSITIONS = 512
_TOLD_EVERY_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What is trained, and for how long."""

    layers: int = 4
    hidden_size: int = 256
    vocabulary: int = 8192
    """Tokens of the vocabulary, at most."""
    neighbours: int = 16
    """Tokens that local attention sees, half to each side; every fourth layer sees all of the text."""
    block: int = 64
    """Tokens of a block."""
    batch: int = 32
    """Blocks of a training step."""
    epochs: int = 12
    """Passes over all texts."""
    learning_rate: float = 2e-3
    """AdamW's, at its highest."""
    mask_fraction: float = 0.25
    """Share of the tokens that are hidden."""
    seed: int = 0


def pretrain(
    how: Pretraining,
    *,
    corpus: Corpus,
    out: Path,
    threads: int,
    tell: Callable[[str], None],
) -> Path:
    """Pretrain a model, or go on with it; return its folder, `out`/model.

    Beside it lie `pretraining.json`, which says what it was made of and how well it predicts, and `loss.jsonl`, the
    loss of each step.

    Args:
        how: What is trained.
        corpus: What on.
        out: Folder for everything; what is unfinished there, of the same settings and texts, is resumed.
        threads: Processor threads.
        tell: Called with a line now and then.

    Raises:
        UserInputError: `out` is of another pretraining.
    """
    with hold(out, hint="another process pretrains in it; wait for its end, or give another --out"):
        return _pretrain(how, corpus, out, threads=threads, tell=tell)


def _pretrain(how: Pretraining, corpus: Corpus, out: Path, *, threads: int, tell: Callable[[str], None]) -> Path:
    started = {"settings": asdict(how), "sets": corpus.sets, "corpus": Rows(rows=corpus.train, options=None).digest()}
    _claim(out, started)
    if (out / "model").exists():
        tell(f"{out / 'model'}: is there already")
        return out / "model"
    began = time.monotonic()
    start = out / "start"
    if not start.exists():
        make_start(start, how, corpus.train)
    done = fine_tune(
        _job(start, how, corpus), _settings(how, threads), checkpoint=out / "checkpoint.safetensors",
        progress=Curve(out / "loss.jsonl", tell),
    )  # fmt: skip
    if not isinstance(done, FineTuned):
        raise ColdfuseError(f"pretraining stopped at step {done.step}, though nobody asked it to")
    staging = out / "model.part"
    write_model(staging, start, done.tensors)
    found = {
        **started, "digest": open_checkpoint(staging).digest(), "perplexity": done.score_after, "steps": done.num_steps,
        "texts": done.num_examples, "seconds_since_resumed": round(time.monotonic() - began), "about": about(),
    }  # fmt: skip
    write_whole(out / "pretraining.json", json.dumps(found, indent=2).encode())
    publish(staging, out / "model")
    discard_checkpoint(out / "checkpoint.safetensors")
    return out / "model"


def _claim(out: Path, started: Mapping[str, object]) -> None:
    """Note what is pretrained in a folder, or see that it is the same. Raises `UserInputError` where it is another."""
    path, text = out / "settings.json", json.dumps(started, indent=2, sort_keys=True).encode()
    if not path.exists():
        write_whole(path, text)
    elif path.read_bytes() != text:
        raise UserInputError(f"{out}: holds a pretraining with other settings or texts; give another --out")


def make_start(folder: Path, how: Pretraining, texts: Sequence[str]) -> None:
    """Write a model of random numbers, with a vocabulary that is learnt of the texts; the folder appears whole."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    staging = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    with quiet():
        size = write_tokenizer(staging, texts, size=how.vocabulary, longest=_POSITIONS)
        first, last = (SPECIAL.index(token) for token in ("[CLS]", "[SEP]"))
        config = ModernBertConfig(
            vocab_size=size, hidden_size=how.hidden_size, num_hidden_layers=how.layers,
            num_attention_heads=max(1, how.hidden_size // 64), intermediate_size=2 * how.hidden_size,
            max_position_embeddings=_POSITIONS, local_attention=how.neighbours,
            layer_types=["sliding_attention" if layer % 4 else "full_attention" for layer in range(how.layers)],
            pad_token_id=0, bos_token_id=first, cls_token_id=first, eos_token_id=last, sep_token_id=last,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(how.seed, "start") % (1 << 32))
            ModernBertForMaskedLM(config).save_pretrained(staging)
    publish(staging, folder)


@dataclass(frozen=True, kw_only=True)
class HiddenAlone(MaskedLM):
    """Masked language modelling that scores the vocabulary at the hidden tokens alone, a fifth of the work less."""

    def load(self, base_dir: Path, examples: Rows[Passage], settings: TrainingSettings) -> TaskModel:
        """Load the model, which must be a ModernBERT, and have it leave out what no loss asks for."""
        loaded = super().load(base_dir, examples, settings)
        model: Any = loaded.model
        model.sparse_prediction = True
        return loaded


def _job(start: Path, how: Pretraining, corpus: Corpus) -> TrainingJob:
    base, task = open_checkpoint(start), HiddenAlone(mask_fraction=how.mask_fraction)
    rows = [
        Rows(rows=tuple(Passage(text=text) for text in texts), options=task)
        for texts in (corpus.train, corpus.validation[:2000])
    ]
    return TrainingJob(
        base_dir=start, base_digest=base.digest(), schema_names=base.schema.keys(), round=1, train=rows[0],
        validation=rows[1], task=task,
    )  # fmt: skip


def _settings(how: Pretraining, threads: int) -> TrainingSettings:
    return TrainingSettings(
        num_epochs=how.epochs, batch_size=how.batch, learning_rate=how.learning_rate, warmup_fraction=0.1,
        weight_decay=0.01, max_gradient_norm=1.0, dropout=0.0, max_length=how.block, tokens_at_once=8192,
        patience=how.epochs, seed=how.seed, threads=threads, checkpoint_every_s=60.0,
        train_args={"adam_beta2": 0.98},
    )  # fmt: skip


class Curve:
    """Keeps the loss of each step in a file, also over a kill, and tells of it now and then."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path, self.tell = path, tell
        self.told_s, self.began_s = 0.0, time.monotonic()
        self.first: int | None = None

    def __call__(self, event: TrainingProgress) -> None:
        """Note a step or a score."""
        if event.phase == "probe":
            return
        if self.first is None:
            self._begin(event.step)
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": event.step, "loss": event.loss, "perplexity": event.score}) + "\n")
        now = time.monotonic()
        if event.phase == "score" or now - self.told_s >= _TOLD_EVERY_S:
            self.told_s = now
            self.tell(self._line(event, now - self.began_s))

    def _begin(self, step: int) -> None:
        """Forget what an earlier process noted of steps that are done again."""
        self.first = step
        if self.path.exists():
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] < step]
            write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())

    def _line(self, event: TrainingProgress, elapsed_s: float) -> str:
        num_done = event.step - (self.first or 0) + 1
        left_min = elapsed_s / num_done * (event.num_steps - event.step) / 60
        what = f"perplexity {event.score:.1f}" if event.score is not None else f"loss {event.loss or 0:.2f}"
        return f"step {event.step} of {event.num_steps}, epoch {event.epoch}: {what}, about {left_min:.0f} min left"
