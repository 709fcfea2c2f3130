from types import SimpleNamespace

import pytest
import torch
from torch import nn

from coldfuse.training.tasks.masking import Masking, collate_masked, mask_anew_in_training
from coldfuse.training.tasks.rows import NO_LABEL

MASKING = Masking(mask_token=4, num_tokens=100, special=frozenset(range(5)), fraction=0.15)


def block(length, *, seed=0):
    middle = torch.randint(5, 100, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return {"input_ids": [2, *middle, 3], "length": length + 2}


def collated(*features):
    return collate_masked(features, masking=MASKING, filler=0)


def test_the_share_is_hidden_and_labels_are_what_was_there():
    feature = block(4000)
    batch = collated(feature)
    chosen = batch["labels"][0] != NO_LABEL
    original = torch.tensor(feature["input_ids"])
    assert int(chosen.sum()) == 600
    assert torch.equal(batch["labels"][0][chosen], original[chosen])
    assert torch.equal(batch["input_ids"][0][~chosen], original[~chosen])
    shown = batch["input_ids"][0][chosen]
    assert (shown == 4).float().mean() == pytest.approx(0.8, abs=0.05)
    assert (shown == original[chosen]).float().mean() == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("length", [1, 2, 5, 20])
def test_of_every_block_a_token_is_hidden_and_never_a_special_one_or_padding(length):
    batch = collated(block(length), block(30, seed=1))
    places = (batch["labels"][0] != NO_LABEL).nonzero().flatten().tolist()
    assert places
    assert all(1 <= place <= length for place in places)


def test_without_training_the_masks_follow_from_the_block_alone():
    alone, beside = collated(block(20)), collated(block(20), block(50, seed=1))
    assert torch.equal(alone["input_ids"][0], beside["input_ids"][0, :22])
    assert torch.equal(alone["labels"][0], beside["labels"][0, :22])


class Model(nn.Module):
    """Notes what it is given."""

    def forward(self, input_ids, attention_mask, labels):
        return SimpleNamespace(ids=input_ids, labels=labels)


def masked_in_training(batch, seed):
    model = Model()
    mask_anew_in_training(model, MASKING)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        given = model.train()(**batch)
        assert torch.equal(torch.get_rng_state(), before)  # dropout is as it was
    finally:
        torch.set_rng_state(state)
    return given


def test_each_step_of_a_training_draws_its_own_masks_and_the_same_step_the_same_ones():
    batch = collated(block(40), block(30, seed=1))
    first, again, other = masked_in_training(batch, 1), masked_in_training(batch, 1), masked_in_training(batch, 2)
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)
    for given in (first, other):
        original = torch.where(given.labels == NO_LABEL, given.ids, given.labels)
        whole = torch.where(batch["labels"] == NO_LABEL, batch["input_ids"], batch["labels"])
        assert torch.equal(original, whole)
        assert (given.labels != NO_LABEL).sum() == (batch["labels"] != NO_LABEL).sum()


def test_without_training_a_model_sees_the_batch_as_it_is():
    model, batch = Model(), collated(block(40))
    mask_anew_in_training(model, MASKING)
    assert model.eval()(**batch).ids is batch["input_ids"]
