"""What a checkpoint holds of a model and its optimizer while they train."""

import torch
from torch import nn

from coldfuse.training.checkpoint import pack, unpack


def test_unpack_undoes_pack():
    def run():
        model = nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters())

    model, optimizer = run()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    packed = {name: tensor.clone() for name, tensor in pack(model, optimizer, {"weight": torch.ones(2, 3)}).items()}
    other_model, other_optimizer = run()
    best = unpack(packed, other_model, other_optimizer)
    assert torch.equal(best["weight"], torch.ones(2, 3))
    repacked = pack(other_model, other_optimizer, best)
    assert repacked.keys() == packed.keys()
    assert all(torch.equal(repacked[name], packed[name]) for name in packed)
