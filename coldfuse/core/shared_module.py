"""What a federation shares where its model is a module on a frozen body: the module alone, and whose body it fits.

The body never travels: it is named by its digest, and everybody has it already, from a folder or from a hub. The file
`coldfuse_module.json` lies in every release beside the module's tensors, so that a folder says by itself what it is.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Digest, Value

MODULE_FILE = "coldfuse_module.json"
"""The file that makes a folder one of a module, and says of which."""

ADAPTER_CONFIG = "adapter_config.json"
"""PEFT's settings of an adapter, beside its tensors."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The tensors of a module that PEFT loads."""

MODULE_WEIGHTS = "module.safetensors"
"""The tensors of a module that are the body's own, by the body's names."""

TENSORS = "tensors"
"""The kind of a module that is a part of the body, chosen by patterns; all other kinds are PEFT's types."""


class Body(Value):
    """The frozen model that a module belongs to, which nobody sends."""

    digest: Digest
    """Model digest: SHA-256 over the sorted list of its tensors and their bytes, whatever the files."""
    origin: Annotated[str, Field(max_length=1000)]
    """Hub id, or else the folder that it lay in where the federation was created."""
    revision: Annotated[str, Field(max_length=200)] | None = None
    """Commit at the hub, where it is known."""

    @property
    def where(self) -> str:
        """Where it came from, for people."""
        return f"{self.origin} at {self.revision[:12]}" if self.revision else self.origin


class SharedModule(Value):
    """A module on a frozen body."""

    kind: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    """PEFT's type of adapter, such as LORA; `tensors` for a part of the body."""
    share: Annotated[str, Field(max_length=1000)]
    """What the operator asked for, such as `lora(rank=16)`."""
    body: Body

    @property
    def trained(self) -> str:
        """What whoever trains it has trained, for a contribution's manifest."""
        return self.kind.lower()

    def __str__(self) -> str:
        return f"{self.share} on {self.body.where} (model {self.body.digest[:12]}), which stays as it is"
