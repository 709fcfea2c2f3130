"""What a federation may share on a frozen body, by name: PEFT's types, and parts of the body by patterns.

A mean of tensors is a mean of what they do only where that is linear in them: prompts, vectors that scale, values at
fixed places. LoRA's factors are fused as products (`adapters.refactored`). Types whose change is another product of
several trained tensors are refused: their tensors' mean is none of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from coldfuse.core.shared_module import TENSORS
from coldfuse.errors import UserInputError
from coldfuse.training.ways.parsing import find_known, make, split_call

_OPTION = "--share"
_EXAMPLE = "lora(rank=16), or patterns such as adapter.*"
_PATTERN = re.compile(r"[\w./*?\[\]!-]+")


class Share(BaseModel):
    """What is shared; its fields are its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    kind: ClassVar[str]
    """PEFT's name of the type."""
    fused: ClassVar[str] = "tensor by tensor"
    """How contributions are fused, in a few words."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of what is drawn at random for release 0."""

    def settings(self) -> dict[str, Any]:  # PEFT is untyped
        """Return what PEFT's configuration is made with."""
        return {}


class _Targeted(Share):
    target_modules: str | None = Field(default=None, max_length=1000)
    """Names of modules, or ends of them, with commas between; all linear layers in the body's stack of layers, or what
    PEFT takes for the model's type, if not given."""

    def targets(self) -> list[str] | None:
        """Return the names of modules; None where none were given."""
        return [name.strip() for name in self.target_modules.split(",")] if self.target_modules else None


class Lora(_Targeted):
    """Low-rank factors of linear layers (arXiv 2106.09685)."""

    kind: ClassVar = "LORA"
    fused: ClassVar = "as changes of weights: products are combined, and cut to the rank"

    rank: int = Field(default=16, ge=1, le=4096)
    """Number of columns of B."""
    alpha: float | None = Field(default=None, gt=0)
    """Numerator of the scale alpha / rank; twice the rank if not given."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a layer's inputs that training drops before the factors."""
    rslora: bool = False
    """True to divide alpha by √rank (arXiv 2312.03732)."""

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        return {
            "r": self.rank, "lora_alpha": int(alpha) if alpha == int(alpha) else alpha, "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
        }  # fmt: skip


class Dora(Lora):
    """LoRA beside a trained length of each row of the weight (arXiv 2402.09353); lengths are fused as vectors."""

    fused: ClassVar = "products as LoRA's, and the lengths of rows tensor by tensor"

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        return {**super().settings(), "use_dora": True}


class IA3(_Targeted):
    """Vectors that scale keys, values and inner activations (arXiv 2205.05638)."""

    kind: ClassVar = "IA3"
    feedforward_modules: str | None = Field(default=None, max_length=1000)
    """Those of the target modules whose input is scaled, with commas between."""

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        names = self.feedforward_modules
        return {} if names is None else {"feedforward_modules": [name.strip() for name in names.split(",")]}


class LnTuning(_Targeted):
    """Weights and biases of normalisations (arXiv 2312.11420)."""

    kind: ClassVar = "LN_TUNING"


class FourierFT(_Targeted):
    """Coefficients of a change of weights at fixed frequencies (arXiv 2405.03003)."""

    kind: ClassVar = "FOURIERFT"
    n_frequency: int = Field(default=1000, ge=1)
    """Number of coefficients of each layer."""
    scaling: float = 150.0
    """Factor of the change."""

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        return {"n_frequency": self.n_frequency, "scaling": self.scaling, "init_weights": True}


class _Prompt(Share):
    tokens: int = Field(default=20, ge=1, le=4096)
    """Number of virtual tokens."""

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        return {"num_virtual_tokens": self.tokens}


class Prompt(_Prompt):
    """Embeddings of virtual tokens before the input (arXiv 2104.08691)."""

    kind: ClassVar = "PROMPT_TUNING"


class Prefix(_Prompt):
    """Keys and values of virtual tokens in every layer (arXiv 2101.00190)."""

    kind: ClassVar = "PREFIX_TUNING"


class AdaptionPrompt(Share):
    """Tokens that upper layers attend to through a gate that begins at 0 (LLaMA-Adapter, arXiv 2303.16199)."""

    kind: ClassVar = "ADAPTION_PROMPT"
    tokens: int = Field(default=10, ge=1, le=4096)
    """Number of tokens of each layer."""
    layers: int = Field(default=2, ge=1)
    """Number of layers, counted from the output."""

    def settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration is made with."""
        return {"adapter_len": self.tokens, "adapter_layers": self.layers}


class Patterns(Share):
    """Tensors of the body whose names match patterns."""

    kind: ClassVar = TENSORS
    patterns: tuple[str, ...]
    """Patterns of whole names, in which `*` is anything."""


SHARES: Mapping[str, type[Share]] = {
    "lora": Lora, "dora": Dora, "ia3": IA3, "prompt": Prompt, "prefix": Prefix, "adaption-prompt": AdaptionPrompt,
    "ln-tuning": LnTuning, "fourierft": FourierFT,
}  # fmt: skip
"""What may be shared, by its name."""

_PRODUCT = "its change is a product of several trained tensors, and a mean of those is none of its own; share lora"
_REFUSED = {
    **dict.fromkeys(
        ("adalora", "loha", "lokr", "vera", "pvera", "randlora", "hira", "gralora", "glora", "vblora", "tinylora",
         "unilora", "adamss", "frod", "peanut", "psoft"), _PRODUCT,
    ),
    **dict.fromkeys(
        ("oft", "boft", "hra", "road", "delora"),
        "it turns weights, and a mean of what turns is none of a turn; share lora",
    ),
    "p-tuning": "the network that makes its prompt is no part of what PEFT saves, so no round could go on with it; "
    "share prompt",
}  # fmt: skip
"""Types of PEFT's that are not shared, and why."""


def parse_share(text: str) -> Share:
    """Read what is to be shared.

    >>> parse_share("lora(rank=4)").settings()["lora_alpha"]
    8
    >>> parse_share("classifier.*, pooler.*").patterns
    ('classifier.*', 'pooler.*')

    Raises:
        UserInputError: It is not known, makes no sense on a frozen body, or a parameter is out of bounds.
    """
    parts = tuple(part.strip() for part in text.split(","))
    if "(" not in text and all(_PATTERN.fullmatch(part) for part in parts) and any(c in text for c in "*?.["):
        return Patterns(patterns=parts)
    name, given = split_call(text, option=_OPTION, example=_EXAMPLE)
    plain = name.lower().replace("_", "-")
    if plain in _REFUSED:
        raise UserInputError(f"{_OPTION} {name}: {_REFUSED[plain]}")
    given = {"rank" if key == "r" else key: value for key, value in given.items()}
    return make(find_known(name, SHARES, option=_OPTION), given, option=_OPTION, name=plain)
