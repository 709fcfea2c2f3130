"""What fusing returns, and the methods that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.api.tables import html_table
from coldfuse.core.left_out import LeftOut, left_out_lines


@dataclass(frozen=True, kw_only=True)
class FusedModel:
    """A model, delta or adapter that was fused."""

    path: Path
    """Folder or file that was made."""
    digest: str
    """Digest of the fused model's tensors, or of the delta's."""
    method: str
    """Recipe with every parameter."""
    moved: float
    """Fraction of the elements whose bytes differ from the base's."""
    weights: Mapping[str, object] = field(default_factory=dict)
    """Each model's weight, and what else was set by model or tensor, as a weights file says it; to be used again."""
    adapter_error: float | None = None
    """Norm of what an adapter could not hold, relative to the fused delta's, once PEFT has merged it; None for other
    outputs."""
    adapter_dropped: Mapping[str, float] = field(default_factory=dict)
    """Norm of the delta of each tensor that an adapter does not hold, such as biases and norms."""
    adapter_unchecked: str = ""
    """Why PEFT was not asked what it makes of an adapter; "" if it was, and for other outputs."""
    left_out: tuple[LeftOut, ...] = ()
    """What lies beside the base or in a model and is not in the result, and what a model lacks."""

    def __repr__(self) -> str:
        """Say what lies where."""
        off = "" if self.adapter_error is None else f", off by {self.adapter_error:.2%} of the fused delta"
        off += f", without {len(self.adapter_dropped)} tensors that changed" if self.adapter_dropped else ""
        lines = [f"{self.path}: fused by {self.method}{off}", *left_out_lines(self.left_out), f"digest {self.digest}"]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ParameterInfo:
    """A parameter of a method."""

    default: object
    """Value where none is given."""
    meaning: str
    """Sentence for people."""


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """A fusion method, described."""

    name: str
    """Name in a recipe, such as `ties`."""
    summary: str
    """What it computes, in one line."""
    source: str
    """Paper and equation that it follows."""
    kind: str
    """What it does in a recipe: changes each delta, combines, moves the base, or searches."""
    needs: str
    """Passes over the models, memory and statistics that it takes."""
    parameters: Mapping[str, ParameterInfo] = field(default_factory=dict)
    """Parameters by name."""

    def __str__(self) -> str:
        """Describe the method and its parameters, a line each."""
        lines = [f"{self.name}: {self.summary}", f"  {self.kind}; {self.needs}", f"  source: {self.source}"]
        return "\n".join([*lines, *(f"  {key}={of.default}  {of.meaning}" for key, of in self.parameters.items())])


class Methods(dict[str, MethodInfo]):
    """Methods by name. A notebook shows them as a table."""

    def __str__(self) -> str:
        """List the methods, a line each."""
        return "\n".join(f"{name:>18}  {info.summary}" for name, info in self.items())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(name, info.summary, ", ".join(info.parameters), info.source) for name, info in self.items()]
        return html_table(("method", "what it computes", "parameters", "source"), rows)
