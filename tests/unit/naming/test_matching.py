"""Names that a prefix explains, and those that nothing does, of models that transformers does not know."""

import pytest

from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.matching import Matched, Names, find_modules, match_model

BASE = ("embed.weight", "layer.0.query.weight", "layer.0.query.bias", "layer.1.query.weight")


def names(*tensors: str) -> Names:
    return Names(tensors=set(tensors), needed=set(tensors), config={"model_type": "tiny"})


def match(*own: str, base: tuple[str, ...] = BASE) -> Matched:
    return match_model(names(*own), names(*base), what="alice")


@pytest.mark.parametrize("wrapper", ["", "bert.", "model.bert.", "_orig_mod.", "module._orig_mod.", "module."])
def test_one_prefix_or_wrapper_explains_all(wrapper: str) -> None:
    found = match(*(wrapper + name for name in BASE))
    assert found.base_names == {wrapper + name: name for name in BASE}
    assert not found.outside | found.inside | found.may_lack


def test_a_prefix_of_the_bases_own_is_put_before_the_names() -> None:
    found = match(*BASE, base=tuple(f"bert.{name}" for name in BASE))
    assert found.base_names == {name: f"bert.{name}" for name in BASE}


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_torch_wraps_single_layers_too(wrapper: str) -> None:
    found = match("embed.weight", f"layer.0.{wrapper}.query.weight", f"layer.0.{wrapper}.query.bias", BASE[3])
    assert found.base_names[f"layer.0.{wrapper}.query.bias"] == "layer.0.query.bias"


def test_fsdp_wraps_a_model_and_its_layers() -> None:
    found = match(*(f"_fsdp_wrapped_module.{name}".replace(".0.", ".0._fsdp_wrapped_module.") for name in BASE))
    assert sorted(found.base_names.values()) == sorted(BASE)


def test_a_head_beside_a_body_with_a_prefix_is_outside() -> None:
    found = match(*(f"bert.{name}" for name in BASE), "classifier.weight")
    assert found.outside == {"classifier.weight"}


def test_without_a_prefix_nothing_is_taken_for_a_head() -> None:
    found = match(*BASE, "classifier.weight")
    assert (found.inside, found.outside) == ({"classifier.weight"}, frozenset())
    assert found.unknown == "transformers knows no model type 'tiny'"


def test_what_the_base_has_may_not_be_missing_if_nobody_knows_why() -> None:
    found = match(*BASE[1:])
    assert found.may_lack == frozenset()
    assert "transformers knows no model type" in found.unknown


def test_two_tensors_that_would_be_one_are_refused_with_both_names() -> None:
    with pytest.raises(
        SchemaMismatchError, match=r"tensors _orig_mod\.embed\.weight and embed\.weight are both the base"
    ):
        match(*BASE, "_orig_mod.embed.weight")


def test_prefixes_that_explain_as_much_are_refused_with_both() -> None:
    twice = tuple(f"{side}.{name}" for side in ("encoder", "decoder") for name in BASE)
    with pytest.raises(
        SchemaMismatchError, match=r"in several ways \(prefix 'encoder\.' or 'decoder\.'|'decoder\.' or"
    ):
        match(*BASE, base=twice)


def test_modules_of_an_adapter_lie_under_one_prefix() -> None:
    to_base = find_modules(["bert.layer.0.query"], names(*BASE), what="alice")
    assert to_base("bert.layer.0.query.bias") == "layer.0.query.bias"
    assert to_base("classifier.weight") is None


def test_modules_that_are_nowhere_are_refused_with_their_name() -> None:
    with pytest.raises(SchemaMismatchError, match=r"alice: module 'layer\.7\.query' is not in the base, under"):
        find_modules(["layer.7.query"], names(*BASE), what="alice")
