"""The tasks that a node can train: coldfuse's own, one file each, and those of packages that are installed beside it.

task                  what a task is
text_classification   texts or pairs of texts with one label each
multi_label           the same with any number of labels each
regression            the same with a number each
splitting             examples set apart for validation
token_classification  words with a tag each
question_answering    parts of texts that answer questions
masked_lm             hidden words of unlabelled text
causal_lm             unlabelled text, word for word
instructions          answers of an assistant
text_to_text          one text from another
image_classification  pictures with one label each (pictures, seeing)
contrastive           pictures with a text each, told from all others: CLIP
edits                 facts that are changed, and what must stay (edit_rows, editing, asking)

A package adds one by an entry point of the group `coldfuse.tasks`: its name is the task's, its value a class that can
be made without arguments and has all that `coldfuse.training.tasks.task.Task` asks for.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from coldfuse.errors import UserInputError
from coldfuse.training.tasks.task import Task

GROUP = "coldfuse.tasks"
"""Name of the group of entry points in which packages list their tasks."""

DEFAULT_TASK = "text-classification"
"""Task of who names none."""

TASKS: dict[str, str] = {
    "text-classification": "coldfuse.training.tasks.text_classification:TextClassification",
    "multi-label-classification": "coldfuse.training.tasks.multi_label:MultiLabel",
    "regression": "coldfuse.training.tasks.regression:Regression",
    "token-classification": "coldfuse.training.tasks.token_classification:TokenClassification",
    "question-answering": "coldfuse.training.tasks.question_answering:QuestionAnswering",
    "fill-mask": "coldfuse.training.tasks.masked_lm:MaskedLM",
    "text-generation": "coldfuse.training.tasks.causal_lm:CausalLM",
    "instructions": "coldfuse.training.tasks.instructions:Instructions",
    "text2text-generation": "coldfuse.training.tasks.text_to_text:TextToText",
    "image-classification": "coldfuse.training.tasks.image_classification:ImageClassification",
    "contrastive-image-text": "coldfuse.training.tasks.contrastive:Contrastive",
    "edit": "coldfuse.training.tasks.edits:Edit",
}
"""Where each of coldfuse's own tasks is, by name; it is imported with its first use."""

_NEEDED = (
    "name", "metric", "higher_is_better", "has_private_head", "read", "load", "encode", "start_head", "score",
)  # fmt: skip
_LINE = re.compile(r"\s*([a-z0-9][a-z0-9-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*(\w+)\s*=\s*("[^"]*"|'[^']*'|(?:[^,"'][^,]*)?)\s*(?:,|$)""")
"""An option with its value, in quotes where it has commas, or spaces at an end."""
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def known_tasks() -> list[str]:
    """Return the names of all tasks; those of other packages are not imported for it."""
    return [*TASKS, *sorted(_foreign())]


def find_task(line: str) -> Task:
    """Return the task of a line: a name, or a name with options in parentheses, `NAME=VALUE` with commas between.

    A value with commas, quotes, or spaces at an end that count stands in quotes.

    Raises `UserInputError` for a task or an option that there is not, or a package's task that cannot be used.

    >>> find_task("text-classification").metric, find_task('text2text-generation(prefix="summarize: ")').prefix
    ('accuracy', 'summarize: ')
    """
    match = _LINE.fullmatch(line)
    if match is None or (match[1] not in TASKS and match[1] not in _foreign()):
        raise UserInputError(f"task {line!r} is not known; known are {', '.join(known_tasks())}")
    name, options = match[1], match[2]
    kind = _own(TASKS[name]) if name in TASKS else _load(_foreign()[name])
    return _made(kind, name, _parse(name, options or ""))


def describe_task(task: Task) -> str:
    """Return the line that finds this task again: its name, and the options that are not the default.

    >>> describe_task(find_task("text-classification"))
    'text-classification'
    """
    if not dataclasses.is_dataclass(task):
        return task.name
    given = [
        f"{field.name}={_written(getattr(task, field.name))}"
        for field in dataclasses.fields(task)
        if field.init and getattr(task, field.name) != field.default
    ]
    return f"{task.name}({', '.join(given)})" if given else task.name


@cache
def _foreign() -> dict[str, EntryPoint]:
    """Return the entry points of tasks that other packages bring."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in TASKS or point.name in found:
            raise UserInputError(f"{_where(point)}: there is a task of this name already; rename it")
        if not _LINE.fullmatch(point.name):
            raise UserInputError(f"{_where(point)}: expected a name of lower-case letters, digits and '-'")
        found[point.name] = point
    return found


def _where(point: EntryPoint) -> str:
    return f"entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'}"


def _own(place: str) -> Any:
    module, _, kind = place.partition(":")
    return getattr(import_module(module), kind)


def _load(point: EntryPoint) -> Any:
    try:
        kind = point.load()
    except Exception as error:  # another package's code, which may fail in any way when it is imported
        raise UserInputError(f"{_where(point)}: cannot be loaded: {error}; repair or remove that package") from error
    missing = [name for name in _NEEDED if not hasattr(kind, name)]
    if not isinstance(kind, type) or missing:
        raise UserInputError(f"{_where(point)}: expected a class that is a Task; it lacks {', '.join(missing) or 'it'}")
    return kind


def _written(value: object) -> str:
    """Return an option's value as `_parse` reads it."""
    text = str(value)
    if text == text.strip() and "," not in text and text[:1] not in ("'", '"'):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _parse(name: str, options: str) -> dict[str, str]:
    """Split `a=1, b="x, y"`."""
    given: dict[str, str] = {}
    rest = options.strip()
    while rest:
        option = _OPTION.match(rest)
        if option is None or option[1] in given:
            raise UserInputError(
                f"task {name}: {rest[:100]!r} is no option, expected NAME=VALUE, each once, with quotes around a value "
                "that has commas"
            )
        value = option[2].strip()
        given[option[1]] = value[1:-1] if value[:1] in ("'", '"') else value
        rest = rest[option.end() :].strip()
    return given


def _made(kind: Any, name: str, given: dict[str, str]) -> Task:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    values: dict[str, object] = {}
    for key, text in given.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise UserInputError(f"task {name} has no option {key!r}; it has {known}")
        values[key] = _value(name, key, text, fields[key].default)
    task: Task = kind(**values)
    return task


def _value(name: str, key: str, text: str, default: object) -> object:
    """Read an option as what its default is."""
    try:
        if isinstance(default, bool):
            return _TRUTHS[text.lower()]
        return type(default)(text) if isinstance(default, int | float) else text
    except (KeyError, ValueError):
        raise UserInputError(
            f"task {name}: {key} is {text!r}, expected {'a number' if not isinstance(default, bool) else 'yes or no'}"
        ) from None
