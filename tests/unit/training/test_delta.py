"""What leaves the node: the difference to the base, of what changed."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_rounds import make_model, parse_file, write_model

from coldfuse.core.serialization import sha256
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.training.delta import write_delta

DIGEST = sha256(b"base")


@pytest.mark.parametrize(("dtype", "num_files"), [("F32", 1), ("BF16", 2)])
def test_a_delta_holds_the_change_of_what_changed(tmp_path, small_parts, dtype, num_files):
    model = make_model(dtype=dtype)
    base = open_checkpoint(write_model(tmp_path / "base", model, num_files=num_files))
    fused = [name for name, tensor in model.items() if tensor.spec.is_fused]
    finetuned = {name: torch.from_numpy(model[name].floats.astype(np.float32)) for name in fused}
    finetuned["layer.weight"] = finetuned["layer.weight"] + torch.eye(8)
    finetuned["scale"] = finetuned["scale"] - 0.5
    blob = write_delta(tmp_path / "delta", base, finetuned, encoding="F32", base_digest=DIGEST)
    data = (tmp_path / "delta").read_bytes()
    starts = np.cumsum([0, *(part.size_bytes for part in blob.parts)])
    assert [sha256(data[a:b]) for a, b in pairwise(starts)] == [p.digest for p in blob.parts]
    assert starts[-1] == len(data)
    check_delta(read_file_header(tmp_path / "delta"), base.schema, base_digest=DIGEST, what="delta")
    delta = parse_file(data)
    assert delta.keys() == {"layer.weight", "scale"}
    np.testing.assert_allclose(delta["layer.weight"].floats, np.eye(8), atol=1e-6)
    np.testing.assert_allclose(delta["scale"].floats, -0.5, atol=1e-6)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    base = open_checkpoint(write_model(tmp_path / "base", make_model()))
    with pytest.raises(SchemaMismatchError, match=r"tensor scale: shape \[2\], base has \[\]"):
        write_delta(tmp_path / "delta", base, {"scale": torch.ones(2)}, encoding="F32", base_digest=DIGEST)
    assert not (tmp_path / "delta").exists()
