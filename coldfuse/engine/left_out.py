"""What an input has and no result can have, what it lacks, and what lies beside a base and stays there."""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import OTHER_WEIGHTS, folder_of, why_left_out
from coldfuse.core.schema import INTEGER_DTYPES
from coldfuse.engine.mismatches import Fitting, check_model
from coldfuse.engine.tied import Tied
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.heads import names_labels_alone
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.tensor_file import TensorFile


def fit(
    base: Checkpoint, model: Checkpoint, *, what: str, tied: Tied
) -> tuple[Checkpoint, Fitting, tuple[LeftOut, ...]]:
    """Fit a whole model to a base, folder by folder: each has names and a configuration of its own.

    Args:
        base: The base.
        model: The model.
        what: The model's name, for errors.
        tied: The base's copies, as `find_tied` finds them.

    Returns:
        What of the model takes part, which of its tensors are which of the base's, and what is left out.

    Raises:
        SchemaMismatchError: The model cannot be fused with the base; the message names the tensor and what to do.
    """
    model, left_out = _match_folders(base, model, what=what)
    fits = {place: _fit_folder(base, model, place, what, tied) for place in sorted(model.folders)}
    fitting = Fitting(
        base_names={place + name: place + to for place, one in fits.items() for name, to in one.base_names.items()},
        left_out=tuple(place + name for place, one in fits.items() for name in one.left_out),
        unchanged=tuple(place + name for place, one in fits.items() for name in one.unchanged),
    )
    return model, fitting, (*left_out, *_own_tensors(base, model, fitting, what))


def _fit_folder(base: Checkpoint, model: Checkpoint, place: str, what: str, tied: Tied) -> Fitting:
    own = {name.removeprefix(place): to.removeprefix(place) for name, to in tied.items() if folder_of(name) == place}
    where = f"{what}/{place}".rstrip("/") if place else what
    return check_model(base.component(place), model.component(place), what=where, tied=own)


def _match_folders(base: Checkpoint, model: Checkpoint, *, what: str) -> tuple[Checkpoint, tuple[LeftOut, ...]]:
    """Return what a model holds in the folders that hold the base's tensors, and what is said of the other folders.

    A module or component that only the model has is left out; one that only the base has counts as unchanged.

    Raises:
        SchemaMismatchError: They have no such folder in common.
    """
    ours, theirs = base.folders, model.folders
    if not ours & theirs and (place := _place_of(base, model)):
        model, theirs = model.within(place), frozenset({place})
    if not ours & theirs:
        wanted, got = (", ".join(sorted(folder or "the folder itself" for folder in of)) for of in (ours, theirs))
        raise SchemaMismatchError(
            f"{what}: the base has its tensors in {wanted}, and this one in {got}; give a model "
            "of the same kind as the base"
        )
    more = named_left_out(what, sorted(theirs - ours), "folders with tensors that the base does not have")
    fewer = named_left_out(what, sorted(ours - theirs), "it has no such folder: these stay as the base has them")
    return model.only(ours), (*more, *fewer)


def _place_of(base: Checkpoint, model: Checkpoint) -> str | None:
    """Return the folder of the base's of which a model without folders is a copy, such as a pipeline's unet alone."""
    same = [
        place for place in sorted(base.folders) if base.only([place]).schema.keys() == model.within(place).schema.keys()
    ]
    return same[0] if len(same) == 1 and model.folders == {""} else None


def _own_tensors(base: Checkpoint, model: Checkpoint, fitting: Fitting, what: str) -> tuple[LeftOut, ...]:
    """Say what a model has beside the base's tensors, and which of those it lacks."""
    is_buffer = {name: model.schema[name].dtype in INTEGER_DTYPES for name in fitting.left_out}
    buffers, heads = (tuple(name for name in is_buffer if is_buffer[name] is kind) for kind in (True, False))
    lacking = tuple(name for name in fitting.unchanged if base.schema[name].dtype not in INTEGER_DTYPES)
    labels = ["id2label"] if names_labels_alone(model.config, base.config) else []
    others = [name for name in model.others if why_left_out(name.removeprefix(folder_of(name))) == OTHER_WEIGHTS]
    return (
        *named_left_out(what, others, OTHER_WEIGHTS),
        *named_left_out(what, buffers, "integers that the base does not have"),
        *named_left_out(what, heads, "another task's head, copies of what is tied, or what transformers does not load"),
        *named_left_out(what, labels, "the base names no labels: the result has none, and heads fuse row by row"),
        *named_left_out(what, lacking, "it has none that fit: these stay as the base has them"),
    )


def named_left_out(what: str, names: Sequence[str], why: str) -> tuple[LeftOut, ...]:
    """Say that an input's tensors are left out; nothing if there are none."""
    return (LeftOut(what, tuple(names), why),) if names else ()


def weights_alone(file: TensorFile, what: str) -> TensorFile:
    """Return a file of weights that belong to no folder.

    Raises:
        UserInputError: By its names or what its writer says of it, it is something else.
    """
    kind = file.header.metadata.get("format", "")
    if kind.startswith("coldfuse-"):
        raise UserInputError(f"{what}: a file of {kind}; expected a model, an adapter's folder or a coldfuse delta")
    if any(".lora_" in entry.name or entry.name.startswith("lora_") for entry in file.header.tensors):
        raise UserInputError(
            f"{what}: an adapter's weights without its settings; give a PEFT adapter's folder, with {ADAPTER_CONFIG}"
        )
    return file
