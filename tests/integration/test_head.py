"""The head: fitted as scikit-learn fits it, and on disk."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coldfuse.errors import UserInputError
from coldfuse.training.head import LinearHead, fit_linear_probe, read_head, save_head


@pytest.mark.parametrize(("num_classes", "strength"), [(2, 0.01), (5, 1.0)])
def test_the_probe_is_the_one_of_scikit_learn(num_classes, strength):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(num_classes)
    labels = torch.arange(200) % num_classes
    centres = torch.randn(num_classes, 12, generator=generator)
    features = centres[labels] + torch.randn(200, 12, generator=generator) * torch.linspace(0.01, 5, 12)
    probe = fit_linear_probe(features, labels, num_classes=num_classes, strength=strength)

    inputs = StandardScaler().fit_transform(features.numpy())
    # scikit-learn gives two classes one row of weights, w, which costs twice as much as the two rows w/2 and -w/2
    reference = LogisticRegression(C=strength * (2 if num_classes == 2 else 1), tol=1e-8, max_iter=1000)
    expected = reference.fit(inputs, labels.numpy()).predict_proba(inputs)
    got = torch.softmax(features @ probe.weight.T + probe.bias, dim=1).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_constant_features_and_absent_classes_do_no_harm():
    features = torch.tensor([[1.0, 3.0], [2.0, 3.0], [1.1, 3.0], [2.1, 3.0]])
    labels = torch.tensor([0, 2, 0, 2])
    probe = fit_linear_probe(features, labels, num_classes=3, strength=10.0)
    assert probe.weight.isfinite().all()
    assert probe.accuracy(features, labels) == 1.0


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(UserInputError, match="features that are not finite"):
        fit_linear_probe(torch.tensor([[1.0], [float("nan")]]), torch.tensor([0, 1]), num_classes=2)


def test_a_head_comes_back_with_the_names_of_its_classes(tmp_path):
    head = LinearHead(weight=torch.randn(2, 3), bias=torch.randn(2))
    save_head(tmp_path / "head.safetensors", head, ["no", "yes"])
    back, labels = read_head(tmp_path / "head.safetensors")
    assert torch.equal(back.weight, head.weight)
    assert torch.equal(back.bias, head.bias)
    assert labels == ("no", "yes")
    assert torch.equal(load_file(tmp_path / "head.safetensors")["weight"], head.weight)


def test_a_file_that_holds_no_head_is_refused(tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(UserInputError, match=r"no such file; expected the head\.safetensors that a node keeps"):
        read_head(path)
    tensors = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    for content, metadata, says in (
        (tensors, {"labels": "no JSON"}, "expected a head that coldfuse wrote"),
        (tensors, {"labels": "5"}, "expected a head that coldfuse wrote"),
        (tensors, {"labels": '["one"]'}, "expected a head that coldfuse wrote"),
        (tensors | {"more": torch.zeros(1)}, {"labels": '["no", "yes"]'}, "expected a head that coldfuse wrote"),
        (tensors | {"weight": torch.zeros(3, 2)}, {"labels": '["no", "yes"]'}, r"weight has shape \[3, 2\] for 2 cl"),
    ):
        save_file(content, path, metadata=metadata)
        with pytest.raises(UserInputError, match=says):
            read_head(path)
