"""Hide tokens to be predicted: BERT's masks (arXiv 1810.04805, section 3.1), drawn anew in every step.

Of the chosen tokens 80 % are replaced by the mask token, 10 % by a random token, and 10 % are kept. Masks are dynamic
(RoBERTa, arXiv 1907.11692, section 4.1): each step of the training draws its own, from the step's seed and what a block
holds, so that a run that is killed and resumed draws the same ones. Without training the masks follow from the block
alone: the perplexity of two models, epochs or rounds is over the same tokens.

Shape letters: B blocks of a batch, L tokens of the longest, K tokens of a block that are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks.models import pad
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.task import Feature

_MASKED, _RANDOM = 0.8, 0.1


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How tokens are hidden."""

    mask_token: int
    """Number of the mask token."""
    num_tokens: int
    """Number of tokens that a random one is drawn from: the rows of the model's embedding."""
    special: frozenset[int]
    """Tokens that are never chosen."""
    fraction: float
    """Share of the other tokens that are chosen."""

    def apply(self, ids_BL: Tensor, visible_BL: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Hide tokens of a batch; each row has its own draw, which the other rows and the padding do not change.

        Args:
            ids_BL: Tokens of the batch, on the CPU.
            visible_BL: 1 for tokens, 0 for padding.
            seed: Seed of the draw, with each row's own tokens.

        Returns:
            The tokens with some hidden, and the labels: the chosen ones' own tokens, elsewhere -100.
        """
        hidden_BL, labels_BL = ids_BL.clone(), torch.full_like(ids_BL, NO_LABEL)
        for row, ids_L in enumerate(ids_BL.tolist()):
            length = int(visible_BL[row].sum())
            free = [place for place in range(length) if ids_L[place] not in self.special]
            if not free:
                continue
            generator = torch.Generator().manual_seed(derive_seed(seed, *ids_L[:length]))
            order = torch.randperm(len(free), generator=generator)
            chosen_K = torch.tensor(free)[order[: max(1, round(self.fraction * len(free)))]]
            labels_BL[row, chosen_K] = ids_BL[row, chosen_K]
            draw_K = torch.rand(len(chosen_K), generator=generator)
            random_K = torch.randint(self.num_tokens, (len(chosen_K),), generator=generator)
            shown_K = torch.where(draw_K < _MASKED + _RANDOM, random_K, ids_BL[row, chosen_K])
            hidden_BL[row, chosen_K] = torch.where(draw_K < _MASKED, self.mask_token, shown_K)
        return hidden_BL, labels_BL


def collate_masked(
    features: Sequence[Feature], *, masking: Masking, filler: int, pad_to: int | None = None
) -> dict[str, Tensor]:
    """Return blocks as a batch with the masks that follow from each block alone."""
    rows: list[Sequence[int]] = [feature["input_ids"] for feature in features]  # type: ignore[misc]
    ids, visible = pad(rows, filler, to=pad_to), pad([[1] * len(row) for row in rows], 0, to=pad_to)
    hidden, labels = masking.apply(ids, visible, seed=0)
    return {"input_ids": hidden, "attention_mask": visible, "labels": labels}


def mask_anew_in_training(model: nn.Module, masking: Masking) -> None:
    """Have the model, while it trains, hide other tokens of the batches that it is given in every step.

    The draw follows from the seed that the step was given (`torch.initial_seed`, which counters decide) and takes
    nothing from the generator, so that dropout is as it was. It is done as the model is called, because batches may be
    made ahead of the step that they are for.
    """

    def hide(called: nn.Module, args: tuple[Any, ...], batch: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        labels = batch.get("labels")
        if called.training and labels is not None and "input_ids" in batch:
            ids = torch.where(labels == NO_LABEL, batch["input_ids"], labels).cpu()
            hidden, anew = masking.apply(ids, batch["attention_mask"].cpu(), seed=torch.initial_seed())
            batch = {**batch, "input_ids": hidden.to(labels.device), "labels": anew.to(labels.device)}
        return args, batch

    model.register_forward_pre_hook(hide, with_kwargs=True)
