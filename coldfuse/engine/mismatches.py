"""Whether a whole model can be fused with a base, tensor by tensor. Nothing is skipped in silence.

- Names and shapes must be the base's: no missing float, no float of its own, no longer or shorter vocabulary.
- Integers and booleans are no weights, and not every library stores them (`position_ids` is a buffer that newer
  transformers leave out): one that the model lacks is copied from the base, one that only the model has is left out.
- Tensors that the base ties and stores twice are one; see `coldfuse.engine.tied`.
- A tied head that is stored once more (`lm_head.weight`) is left out, if the base does not store it, does not say that
  its head is untied, and the copy has the very bytes of the model's input embedding. Any other copy is another head.
- Floats may have another dtype than the base's. Integers and booleans are copied from the base, and every model that
  has them must agree on them (checked when they are copied), but for `num_batches_tracked`: it counts a model's own
  training steps, so models differ in it by right, and the base's stays.
- BatchNorm's `running_mean` and `running_var` are fused like all other floats. A mean of variances is an approximation:
  of equally weighted models, the variance over all their data is E[v] + Var[m], which also holds how far their means
  lie apart. Recompute the statistics on data after fusing where that matters. A method that extrapolates can make a
  variance negative; that is refused, since the model would answer NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from coldfuse.adapters.recompress import LoraLayout
from coldfuse.core.schema import INTEGER_DTYPES, Schema
from coldfuse.engine.tied import Tied, by_first_name, check_files, may_be_tied
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.checkpoint import Checkpoint, Place
from coldfuse.tensors.contents import same_bytes
from coldfuse.tensors.quantised import explain_quantised
from coldfuse.tensors.shapes import differing_shapes

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_projection|vocab_projector|decoder|score|classifier)\.")
"""Tensors of heads."""


def check_model(base: Checkpoint, model: Checkpoint, *, what: str, tied: Tied) -> None:
    """Check that a whole model can be fused with a base.

    Args:
        base: The base.
        model: The model.
        what: The model's name, for errors.
        tied: The base's copies, as `find_tied` finds them.

    Raises:
        SchemaMismatchError: The model cannot be fused with the base; the message names the tensor and what to do.
    """
    try:
        _check_schema(base, model, what, tied)
    except SchemaMismatchError as error:
        of_base = explain_quantised(base.schema, base.config)
        of_model = explain_quantised(model.schema, model.config)
        if of_base or of_model:
            which = f"the base is quantised, {of_base}" if of_base else f"the model is quantised, {of_model}"
            raise SchemaMismatchError(f"{what}: {which}; only floats are fused") from error
        raise
    check_files(model.files.values(), tied, what=what)


def _check_schema(base: Checkpoint, model: Checkpoint, what: str, tied: Tied) -> None:
    """Check that a model has the base's tensors, and no others."""
    schema, known = model.schema, by_first_name(model.schema, tied)
    for name in sorted(base.schema.keys() - schema.keys()):
        if base.schema[name].dtype not in INTEGER_DTYPES and tied.get(name, name) not in known:
            raise SchemaMismatchError(f"{what}: tensor {name} of the base is missing; {_missing_hint(name, base)}")
    buffers = {name for name in schema.keys() - base.schema.keys() if schema[name].dtype in INTEGER_DTYPES}
    own = schema.keys() - buffers - _tied_copies(base, model, what)
    _check_tensors(base.schema, {name: schema[name] for name in own}, what)


def _check_tensors(base: Schema, model: Schema, what: str) -> None:
    """Check names, shapes and dtypes of a model's tensors."""
    for name in sorted(model):
        if name not in base:
            shared = len(base.keys() & model.keys())
            hint = "it is a head or another part that the base does not have; remove that tensor"
            if 2 * shared < len(base):
                hint = f"only {shared} of the base's {len(base)} tensors are in both, so it is a model of another kind"
            raise SchemaMismatchError(f"{what}: tensor {name} is not in the base: {hint}")
        if base[name].shape != model[name].shape:
            raise SchemaMismatchError(f"{what}: tensor {name}: {differing_shapes(model[name].shape, base[name].shape)}")
        if base[name].dtype != model[name].dtype and not (base[name].is_fused and model[name].is_fused):
            raise SchemaMismatchError(
                f"{what}: tensor {name}: dtype {model[name].dtype}, base has {base[name].dtype}; only floats are "
                "fused, and all else must have one dtype: save the model as the base was saved"
            )


def _missing_hint(name: str, base: Checkpoint) -> str:
    if LoraLayout().is_embedding(name) or not _HEAD.search(name):
        return "save the whole model, with save_pretrained of the class that the base was saved from"
    tied = base.config.get("tie_word_embeddings")
    if tied is False:
        return "the base stores its head apart; save the model with tie_word_embeddings false, or its head with it"
    return "the model has no head, and the base has one; save it with its head, or fuse with a base without"


def _tied_copies(base: Checkpoint, model: Checkpoint, what: str) -> frozenset[str]:
    """Return the tensors that the base does not have and that are copies of the input embedding."""
    places = model.places
    extra = sorted(name for name in places if name not in base.schema and len(places[name][1].spec.shape) == 2)
    if not extra or not may_be_tied(base):
        return frozenset()
    embeddings = [name for name in sorted(places) if name in base.schema and LoraLayout().is_embedding(name)]
    return frozenset(name for name in extra if _is_copy(name, embeddings, places, what))


def _is_copy(name: str, embeddings: list[str], places: Mapping[str, Place], what: str) -> bool:
    alike = [other for other in embeddings if places[other][1].spec == places[name][1].spec]
    if alike and not any(same_bytes(places[name], places[other]) for other in alike):
        raise SchemaMismatchError(
            f"{what}: tensor {name} is not in the base, whose head is tied, and differs from {alike[0]}: "
            "the model's head was trained apart; untie the base's head (load it, set config.tie_word_embeddings = "
            "False, give the head a copy of the embedding, save_pretrained), or remove that tensor"
        )
    return bool(alike)
