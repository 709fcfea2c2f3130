# ruff: noqa: N803, N806, N815 - tensor names end in their shape
"""A fused delta as low-rank factors again, and as a PEFT folder: B and A of rank r that are closest to δ.

The best of any rank r is the truncated singular value decomposition δ = U·diag(σ)·Vᵀ (Eckart and Young, 1936):

    B = U_r·√σ_r,  A = √σ_r·V_rᵀ,  ‖δ − BA‖² = Σ_{k>r} σ_k²

Only matrices have factors: biases, norms and convolutions are dropped, and reported with their norms. The last bits of
LAPACK differ between machines, so unlike a fused model these files do too.

Letters: O rows, I columns, R rank.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coldfuse.adapters.adapter import WEIGHTS
from coldfuse.adapters.changes import Float64
from coldfuse.adapters.config import CONFIG
from coldfuse.core.dtypes import from_floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.errors import FusionError, UserInputError
from coldfuse.tensors.header import format_header

_EMBEDDING = re.compile(r"(^|\.)(wte|wpe|shared|relative_attention_bias|(?!embed_out)[^.]*embed[^.]*)\.weight$")
CONV1D_MODEL_TYPES = frozenset({"clvp", "decision_transformer", "gpt2", "imagegpt", "openai-gpt"})
"""Values of `model_type` whose layers store inputs × outputs (transformers' Conv1D), for `fan_in_fan_out`."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The best approximation BA of one delta."""

    b_OR: Float64
    a_RI: Float64
    norm: float
    """Norm of the delta, ‖δ‖."""
    lost: float
    """Norm of what the factors do not hold, ‖δ − BA‖."""

    @property
    def relative_error(self) -> float:
        """Share of the delta's norm that is lost, ‖δ − BA‖ / ‖δ‖."""
        return self.lost / self.norm if self.norm else 0.0


@dataclass(frozen=True, kw_only=True)
class Recompressed:
    """A model's delta as far as factors can carry it."""

    factors: Mapping[str, Factors]
    """Factors by the base's name of the tensor."""
    dropped: Mapping[str, float]
    """Norm of the delta of each tensor that changed and has no factors."""

    @property
    def relative_error(self) -> float:
        """Share of the whole delta's norm that is lost."""
        lost = math.hypot(*(item.lost for item in self.factors.values()), *self.dropped.values())
        norm = math.hypot(*(item.norm for item in self.factors.values()), *self.dropped.values())
        return lost / norm if norm else 0.0


@dataclass(frozen=True, kw_only=True)
class LoraLayout:
    """How a base's tensors lie in the model that the adapter is for."""

    module_prefix: str = ""
    """Prefix of the base's names, such as "bert." for a model with a head on top of a body saved without one."""
    fan_in_fan_out: bool = False
    """True if linear layers store inputs × outputs; see `CONV1D_MODEL_TYPES`."""
    embeddings: Collection[str] | None = field(default=None)
    """Names of the weights that are embeddings; None: those that are usually called so."""
    dtype: str = "F32"
    """Dtype of the factors."""

    def is_embedding(self, name: str) -> bool:
        """Tell whether a weight is an embedding, whose factors have other names."""
        return _EMBEDDING.search(name) is not None if self.embeddings is None else name in self.embeddings


def recompress(delta_OI: Float64, rank: int, *, name: str) -> Factors:
    """Return the factors that are closest to a delta.

    Args:
        delta_OI: The delta of one matrix.
        rank: Number of columns of B; fewer if the matrix itself has fewer rows or columns.
        name: The tensor's name, for errors.

    Raises:
        FusionError: The delta holds NaN or infinity.
    """
    if not np.isfinite(delta_OI).all():
        raise FusionError(f"{name}: the fused delta is not finite, so it has no low-rank factors")
    u_OR, sigma_R, v_RI = np.linalg.svd(delta_OI, full_matrices=False)
    root_R = np.sqrt(sigma_R[:rank])
    return Factors(
        b_OR=u_OR[:, :rank] * root_R,
        a_RI=root_R[:, None] * v_RI[:rank],
        norm=_norm(sigma_R),
        lost=_norm(sigma_R[rank:]),
    )


def recompress_all(
    schema: Schema, names: Iterable[str], read_delta: Callable[[str], Float64], *, rank: int
) -> Recompressed:
    """Return the factors of the named tensors' deltas, one matrix in memory at a time; what is zero is left out.

    Args:
        schema: Dtypes and shapes of the base's tensors.
        names: The base's tensors that were fused.
        read_delta: Returns a tensor's whole fused delta, in any shape of its elements.
        rank: Maximum number of columns of B.

    Raises:
        UserInputError: The rank is below 1.
        FusionError: A delta holds NaN or infinity.
    """
    if rank < 1:
        raise UserInputError(f"rank {rank}: expected 1 or more")
    factors: dict[str, Factors] = {}
    dropped: dict[str, float] = {}
    for name in sorted(names):
        delta = read_delta(name)
        if not delta.any():
            continue
        if is_matrix(name, schema[name]):
            factors[name] = recompress(delta.reshape(schema[name].shape), rank, name=name)
        else:
            dropped[name] = _norm(delta.reshape(-1))
    return Recompressed(factors=factors, dropped=dropped)


def _norm(values: Float64) -> float:
    """Return the 2-norm; squares of very small or large numbers leave float64's range, so divide first."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.sqrt(np.square(values / largest).sum())) if largest else 0.0


def is_matrix(name: str, spec: TensorSpec) -> bool:
    """Tell whether PEFT has low-rank factors for such a tensor: a linear layer's or an embedding's weight.

    What lies in a module's folder of its own is no part of the model that PEFT loads.
    """
    return len(spec.shape) == 2 and name.endswith(".weight") and "/" not in name


def write_lora_adapter(
    path: Path, base_name_or_path: str, factors: Mapping[str, Factors], *, layout: LoraLayout | None = None
) -> None:
    """Write a PEFT folder with these factors, which `PeftModel.from_pretrained` loads on the base.

    Its scale is 1 and its rank the largest of all; smaller factors are filled up with zeros.

    Args:
        path: The folder, which may exist but holds no adapter yet.
        base_name_or_path: What PEFT is to load the base from.
        factors: Factors by the base's name of the tensor.
        layout: How the base's tensors lie in the model that the adapter is for.

    Raises:
        UserInputError: There are no factors, or there is an adapter already.
    """
    layout = layout or LoraLayout()
    if not factors:
        raise UserInputError(f"{path}: no matrix has changed, so there is no adapter to write")
    if (path / CONFIG).exists() or (path / WEIGHTS).exists():
        raise UserInputError(f"{path}: holds an adapter already; give a folder that does not")
    path.mkdir(parents=True, exist_ok=True)
    rank = max(item.b_OR.shape[1] for item in factors.values())
    tensors = dict(sorted(_tensors(factors, rank, layout)))
    specs = [(name, TensorSpec(dtype=layout.dtype, shape=values.shape)) for name, values in tensors.items()]
    with open(path / WEIGHTS, "wb") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for values in tensors.values():
            file.write(from_floats(np.ascontiguousarray(values).reshape(-1), layout.dtype).tobytes())
    (path / CONFIG).write_text(json.dumps(_config(base_name_or_path, factors, rank, layout), indent=2) + "\n")


def _tensors(factors: Mapping[str, Factors], rank: int, layout: LoraLayout) -> Iterator[tuple[str, Float64]]:
    """Name the factors as PEFT does; it transposes BA for embeddings and for inputs × outputs."""
    for name, item in factors.items():
        fill = ((0, 0), (0, rank - item.b_OR.shape[1]))
        b_OR, a_IR = np.pad(item.b_OR, fill), np.pad(item.a_RI.T, fill)
        if layout.is_embedding(name) or layout.fan_in_fan_out:
            b_OR, a_IR = a_IR, b_OR
        infix, suffix = ("embedding_", "") if layout.is_embedding(name) else ("", ".weight")
        module = f"base_model.model.{layout.module_prefix}{name.removesuffix('.weight')}"
        yield f"{module}.lora_{infix}A{suffix}", a_IR.T
        yield f"{module}.lora_{infix}B{suffix}", b_OR


def _config(base: str, factors: Mapping[str, Factors], rank: int, layout: LoraLayout) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": layout.fan_in_fan_out,
        "init_lora_weights": True,
        "target_modules": sorted(layout.module_prefix + name.removesuffix(".weight") for name in factors),
        "modules_to_save": None,
    }
