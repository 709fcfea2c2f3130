"""Whether a whole model can be fused with a base, tensor by tensor. Nothing is skipped in silence.

- Names and shapes must be the base's, as transformers matches them (`coldfuse.naming`): no missing float, no float of
  its own, no longer or shorter vocabulary. But a task's head is not shared: one that the base does not have, or has in
  another shape, for another task or for other labels, is left out, and one that the model does not have stays the
  base's.
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

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from coldfuse.adapters.layout import is_embedding_name
from coldfuse.core.schema import INTEGER_DTYPES, Schema
from coldfuse.engine.tied import Tied, by_first_name, check_places, is_copy_name, may_be_tied
from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.heads import classify_apart, heads_with
from coldfuse.naming.matching import Matched, Names, match_model
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.contents import same_bytes
from coldfuse.tensors.quantised import explain_quantised
from coldfuse.tensors.shapes import differing_shapes


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a model fits a base."""

    base_names: Mapping[str, str]
    """The base's name of each tensor that the base has, by the model's name."""
    left_out: tuple[str, ...]
    """The model's tensors that take no part, by its own names: another head, copies and buffers."""
    unchanged: tuple[str, ...]
    """The base's tensors that the model does not have, by right: they stay as they are."""


def check_model(base: Checkpoint, model: Checkpoint, *, what: str, tied: Tied) -> Fitting:
    """Check that a whole model can be fused with a base.

    Args:
        base: The base.
        model: The model.
        what: The model's name, for errors.
        tied: The base's copies, as `find_tied` finds them.

    Returns:
        Which of its tensors are which of the base's, and what takes no part.

    Raises:
        SchemaMismatchError: The model cannot be fused with the base; the message names the tensor and what to do.
    """
    try:
        return _fit(base, model, what, tied)
    except SchemaMismatchError as error:
        of_base = explain_quantised(base.schema, base.config)
        of_model = explain_quantised(model.schema, model.config)
        if of_base or of_model:
            which = f"the base is quantised, {of_base}" if of_base else f"the model is quantised, {of_model}"
            raise SchemaMismatchError(f"{what}: {which}; only floats are fused") from error
        raise


def _fit(base: Checkpoint, model: Checkpoint, what: str, tied: Tied) -> Fitting:
    """Hold a model against a base; arguments and errors as `check_model`."""
    copies = _tied_copies(base, model)
    matched = match_model(_names(model, but_for=copies), _names(base), what=what)
    heads = _other_heads(base, model, {to: name for name, to in matched.base_names.items()})
    own = {name: to for name, to in matched.base_names.items() if to not in heads}
    _check_heads(base, model, model.schema.keys() - matched.base_names.keys() - copies, what)
    for name in sorted(matched.inside - copies):
        if model.schema[name].dtype not in INTEGER_DTYPES:
            raise _stranger(name, what, matched)
    known = by_first_name(dict.fromkeys(own.values()), tied)
    unchanged = []
    for name in sorted(base.schema.keys() - set(own.values())):
        if name in heads | matched.may_lack or base.schema[name].dtype in INTEGER_DTYPES:
            unchanged.append(name)
        elif tied.get(name, name) not in known:
            raise _missing(name, what, matched)
    _require_something(base, own, what)
    _check_tensors(base.schema, {to: model.schema[name] for name, to in own.items()}, what)
    check_places({to: model.places[name] for name, to in own.items()}, tied, what=what)
    left_out = tuple(sorted(model.schema.keys() - own.keys()))
    return Fitting(base_names=own, left_out=left_out, unchanged=tuple(unchanged))


def _other_heads(base: Checkpoint, model: Checkpoint, own: Mapping[str, str]) -> frozenset[str]:
    """Return the base's tensors of heads that are another task's: a shape differs, or what they classify.

    Args:
        base: The base.
        model: The model.
        own: The model's name of each of the base's tensors that it has.
    """
    names = {name for name in own if not is_copy_name(name)}
    differing = {name for name in own if model.schema[own[name]].shape != base.schema[name].shape}
    some = names if classify_apart(base.config, model.config) else differing
    return heads_with(some, names, base.config)


def _names(model: Checkpoint, *, but_for: Collection[str] = ()) -> Names:
    """Return what names are matched by; integers and booleans are no weights, and not every library stores them."""
    floats = {name for name, spec in model.schema.items() if spec.dtype not in INTEGER_DTYPES}
    return Names(tensors=model.schema.keys(), needed=floats - set(but_for), config=model.config)


def _missing(name: str, what: str, matched: Matched) -> SchemaMismatchError:
    hint = "save the whole model, with save_pretrained of the class that the base was saved from"
    if is_copy_name(name):
        hint = "save the model with its head, which the base stores apart (with tie_word_embeddings false, if it ties)"
    return SchemaMismatchError(f"{what}: tensor {name} of the base is missing; {hint}{_because(matched)}")


def _stranger(name: str, what: str, matched: Matched) -> SchemaMismatchError:
    hint = "it is a part that the base does not have; remove that tensor"
    if not matched.base_names:
        hint = "no tensor of the model has a name of the base's, so it is a model of another kind"
    return SchemaMismatchError(f"{what}: tensor {name} is not in the base: {hint}{_because(matched)}")


def _require_something(base: Checkpoint, own: Mapping[str, str], what: str) -> None:
    """Refuse a model of another kind: all of it would be left out as parts that the base's kind does not load."""
    weights = {name for name, spec in base.schema.items() if spec.dtype not in INTEGER_DTYPES}
    if weights and weights.isdisjoint(own.values()):
        raise SchemaMismatchError(
            f"{what}: none of its tensors is one of the base's, so it is a model of another kind; give one that was "
            "fine-tuned from this base"
        )


def _because(matched: Matched) -> str:
    return f" ({matched.unknown})" if matched.unknown else ""


def _check_tensors(base: Schema, model: Schema, what: str) -> None:
    """Check shapes and dtypes of a model's tensors, by the base's names."""
    for name in sorted(model):
        if base[name].shape != model[name].shape:
            raise SchemaMismatchError(f"{what}: tensor {name}: {differing_shapes(model[name].shape, base[name].shape)}")
        if base[name].dtype != model[name].dtype and not (base[name].is_fused and model[name].is_fused):
            raise SchemaMismatchError(
                f"{what}: tensor {name}: dtype {model[name].dtype}, base has {base[name].dtype}; only floats are "
                "fused, and all else must have one dtype: save the model as the base was saved"
            )


def _tied_copies(base: Checkpoint, model: Checkpoint) -> frozenset[str]:
    """Return the tensors whose names the base does not have and that are copies of the model's input embedding."""
    if not may_be_tied(base):
        return frozenset()
    embeddings = _embeddings(model)
    extra = _matrices(model, model.schema.keys() - base.schema.keys())
    return frozenset(name for name in extra if any(_same(model, name, _alike(model, name, embeddings))))


def _check_heads(base: Checkpoint, model: Checkpoint, names: Collection[str], what: str) -> None:
    """Refuse a head that the base ties to its embedding, and that is not the model's embedding."""
    heads = [name for name in _matrices(model, names) if is_copy_name(name)] if may_be_tied(base) else []
    for name in heads:
        if alike := _alike(model, name, _embeddings(model)):
            raise SchemaMismatchError(
                f"{what}: tensor {name} is not in the base, whose head is tied, and differs from {alike[0]}: "
                "the model's head was trained apart; fuse with --untie, or untie the base's head (load it, set "
                "config.tie_word_embeddings = False, give the head a copy of the embedding, save_pretrained), or "
                "remove that tensor"
            )


def _matrices(model: Checkpoint, names: Collection[str]) -> list[str]:
    return sorted(name for name in names if len(model.schema[name].shape) == 2)


def _embeddings(model: Checkpoint) -> list[str]:
    """Return what is called as embeddings are."""
    return sorted(filter(is_embedding_name, model.schema))


def _alike(model: Checkpoint, name: str, embeddings: Collection[str]) -> list[str]:
    """Return the embeddings that a head may be a copy of."""
    return [other for other in embeddings if other != name and model.schema[other] == model.schema[name]]


def _same(model: Checkpoint, name: str, others: Collection[str]) -> Iterator[bool]:
    return (same_bytes(model.places[name], model.places[other]) for other in others)
