"""The heads of tasks: which of a model's tensors belong to one, and whether two models' heads are of one task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from coldfuse.naming.architecture import Unknown, find_architecture

_CLASSIFIES = "Classification"
"""How names of architectures end whose heads have a row for each label."""


def heads_with(some: Collection[str], names: Iterable[str], config: Mapping[str, object]) -> frozenset[str]:
    """Return the tensors of those heads that one of some tensors belongs to.

    Args:
        some: Names, as a model's files have them.
        names: All names that may be a head's.
        config: The configuration of the model that has them.

    Returns:
        The tensors of these heads, whole; none if transformers cannot tell what is a head.
    """
    if not some or isinstance(architecture := find_architecture(config), Unknown):
        return frozenset()
    heads: dict[str, set[str]] = defaultdict(set)
    for name in names:
        memory = architecture.in_memory(name)
        if memory is not None and not architecture.is_body(memory):
            heads[memory.partition(".")[0]].add(name)
    return frozenset[str]().union(*(own for own in heads.values() if own & set(some)))


def classify_apart(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Tell whether two models of one shape classify something else: other things, or by other labels.

    A configuration that names no labels of its own says nothing of them.

    >>> bert = {"architectures": ["BertForSequenceClassification"]}
    >>> moods, turned = {"id2label": {"0": "bad", "1": "good"}}, {"id2label": {"0": "good", "1": "bad"}}
    >>> classify_apart({**bert, **moods}, {**bert, **turned}), classify_apart({**bert, **moods}, bert)
    (True, False)
    >>> classify_apart(bert, {"architectures": ["BertForTokenClassification"]})
    True
    """
    tasks = _task(one), _task(other)
    if not all(tasks):
        return False
    labels = _labels(one), _labels(other)
    return tasks[0] != tasks[1] or (all(labels) and labels[0] != labels[1])


def names_labels_alone(model: Mapping[str, object], base: Mapping[str, object]) -> bool:
    """Tell whether a model names the labels that its head's rows stand for, and the base of that task names none.

    >>> bert = {"architectures": ["BertForSequenceClassification"]}
    >>> names_labels_alone({**bert, "id2label": {"0": "bad", "1": "good"}}, bert)
    True
    """
    return bool(_task(base)) and _task(base) == _task(model) and bool(_labels(model)) and not _labels(base)


def _task(config: Mapping[str, object]) -> str:
    named = config.get("architectures")
    _, found, task = str(named[0] if isinstance(named, list) and named else "").rpartition("For")
    return task if found and task.endswith(_CLASSIFIES) else ""


def _labels(config: Mapping[str, object]) -> dict[str, str]:
    """Return the names of labels by their numbers; none if they are those that transformers makes up."""
    found = config.get("id2label")
    labels = {str(number): str(label).lower() for number, label in found.items()} if isinstance(found, dict) else {}
    return {} if all(label == f"label_{number}" for number, label in labels.items()) else labels
