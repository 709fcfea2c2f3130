"""Made-up models and deltas: their scale and likeness are those of fine-tuned ones, and nobody has to train.

    δ_i = σ s_i (ρ u_t + √(1 − ρ²) z_i)        u_t: what all learn in round t, z_i: a contributor's own; both N(0, I)

σ = 0.001, ρ = 0.3 (deltas of different tasks are nearly orthogonal), and s_i is log-normal with deviation 0.1, as norms
of honest deltas differ a little.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.blob import Blob, Part
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.core.serialization import sha256
from coldfuse.simulation.attacks import ATTACKS, Knowledge, Rows
from coldfuse.simulation.plan import Contributor
from coldfuse.tensors.deltas import delta_header
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.parts import plan_parts

_BASE_SCALE, _DELTA_SCALE, _LIKENESS, _NORM_SPREAD = 0.02, 0.001, 0.3, 0.1
_COLUMNS = 64
_KNOWN = 6
"""Number of benign contributors whose deltas hostile ones know."""
_TOGETHER = 2
"""Number of hostile contributors that an attack is made for."""


def write_base(folder: Path, num_parameters: int, *, seed: int) -> Path:
    """Write a model of about so many parameters, in three matrices and a vector, and return its folder."""
    rows = max(num_parameters // (3 * _COLUMNS), 1)
    shapes = {f"layer.{index}.weight": (rows, _COLUMNS) for index in range(3)} | {"norm.bias": (_COLUMNS,)}
    specs = [(name, TensorSpec(dtype="F32", shape=shape)) for name, shape in sorted(shapes.items())]
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "simulated"}))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for _, spec in specs:
            file.write((rng.standard_normal(spec.num_elements, np.float32) * np.float32(_BASE_SCALE)).tobytes())
    return folder


@dataclass(frozen=True)
class Packed:
    """A delta, as it is uploaded."""

    blob: Blob
    data: bytes


@dataclass(frozen=True)
class DeltaMaker:
    """Makes the same deltas in every process that has the same seed."""

    schema: Schema
    """The base's tensors."""
    seed: int
    benign: tuple[int, ...] = ()
    """Numbers of the honest contributors whose deltas hostile ones know."""
    is_shared: bool = False
    """True where everybody sends the same delta in a round: it is uploaded once, and the rest is the control path."""

    @property
    def names(self) -> list[str]:
        """Names of the tensors that a delta holds, in its order."""
        return sorted(name for name, spec in self.schema.items() if spec.is_fused)

    @property
    def num_elements(self) -> int:
        """Number of elements of a delta."""
        return sum(self.schema[name].num_elements for name in self.names)

    def delta(self, contributor: Contributor, round_number: int) -> NDArray[np.float32]:
        """Return what a contributor sends in a round: all elements, in the order of the tensors' names."""
        number = 0 if self.is_shared else contributor.number
        own_N = _honest(self.seed, round_number, number, self.num_elements)
        craft = ATTACKS[contributor.attack].craft if contributor.attack else None
        if craft is None:
            return own_N
        known_CN = _known(self.seed, round_number, self.benign, self.num_elements)
        seed = int(sha256(f"{self.seed}/{contributor.number}/{round_number}".encode())[:12], 16)
        sent_FN = craft(Knowledge(benign_CN=known_CN, own_FN=np.stack([own_N] * _TOGETHER), seed=seed))
        sent_N: NDArray[np.float32] = sent_FN[0]
        return sent_N

    def pack(self, delta_N: NDArray[np.float32], base_digest: str) -> Packed:
        """Return a delta as a file of parts."""
        header = delta_header(self.schema, self.names, encoding="F32", base_digest=base_digest)
        data = header + delta_N.tobytes()
        layouts = plan_parts(parse_header(header[8:], what="delta"))
        pieces = [(data[layout.start : layout.start + layout.size_bytes], layout.size_bytes) for layout in layouts]
        return Packed(Blob(parts=tuple(Part(digest=sha256(piece), size_bytes=size) for piece, size in pieces)), data)


def known_ones(contributors: Sequence[Contributor]) -> tuple[int, ...]:
    """Return the numbers of those whose deltas hostile ones know: a few honest ones on time, if there are any."""
    honest = [c.number for c in contributors if not c.attack and not c.is_late]
    return tuple((honest or [c.number for c in contributors])[:_KNOWN])


def _honest(seed: int, round_number: int, number: int, num_elements: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([seed, round_number, number])
    scale = np.float32(_DELTA_SCALE * rng.lognormal(0, _NORM_SPREAD))
    own_N = rng.standard_normal(num_elements, np.float32) * np.float32((1 - _LIKENESS**2) ** 0.5)
    own_N += _shared(seed, round_number, num_elements) * np.float32(_LIKENESS)
    own_N *= scale
    return own_N


@lru_cache(maxsize=2)
def _shared(seed: int, round_number: int, num_elements: int) -> NDArray[np.float32]:
    return np.random.default_rng([seed, round_number]).standard_normal(num_elements, np.float32)


@lru_cache(maxsize=2)
def _known(seed: int, round_number: int, numbers: tuple[int, ...], num_elements: int) -> Rows:
    return np.stack([_honest(seed, round_number, number, num_elements) for number in numbers])
