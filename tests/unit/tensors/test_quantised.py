from __future__ import annotations

import re

import pytest

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.quantised import explain_quantised

ONE = TensorSpec(dtype="U8", shape=(2,))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"bitsandbytes with 4 bits: .*dequantize\(\)"),
        ({"load_in_8bit": True}, "bitsandbytes with 8 bits: "),
        ({"quant_method": "BITS_AND_BYTES"}, "BITS_AND_BYTES: give the model that it was made from"),
        ({"quant_method": "gptq", "bits": 4}, "GPTQ with 4 bits: give the model that it was made from"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8: .*dequantize=True"),
        ({"quant_method": "mxfp4"}, "MXFP4: .*dequantize=True"),
        ({"quant_method": "newest"}, "newest: give the model that it was made from"),
    ],
)
def test_the_configuration_says_by_what(settings: dict[str, object], says: str) -> None:
    found = explain_quantised({}, {"quantization_config": settings})
    assert found is not None
    assert re.search(says, found), found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("l.q.weight.absmax", "bitsandbytes"), ("l.q.weight.quant_map", "bitsandbytes"), ("l.q.SCB", "bitsandbytes"),
        ("l.q.weight_scale_inv", "FP8"), ("l.q.weight_scale", "FP8"), ("l.q.g_idx", "GPTQ"), ("l.q.qweight", "AWQ"),
        ("l.experts.down_proj_blocks", "MXFP4"), ("l.q.weight_packed", "compressed-tensors"),
    ],
)  # fmt: skip
def test_tensors_say_it_where_the_configuration_does_not(name: str, says: str) -> None:
    assert f"by {says}: " in (explain_quantised({name: ONE}, {}) or "")


def test_a_model_of_floats_is_not_quantised() -> None:
    names = ["l.q.weight", "scale", "l.logit_scale", "blocks.0.weight", "running_mean"]
    assert (
        explain_quantised(dict.fromkeys(names, TensorSpec(dtype="F32", shape=(2,))), {"architectures": ["A"]}) is None
    )
