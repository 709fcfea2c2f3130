"""Instructions and conversations: learn what an assistant answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from coldfuse.data.records import Role
from coldfuse.errors import UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES
from coldfuse.training.tasks.chats import PLAIN_TEMPLATE, ChatTemplateError, Message, encode_chat, parse_chat
from coldfuse.training.tasks.rows import NO_LABEL, Rows, parse_rows, read_cells, require_some, said
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings

Chat = tuple[Message, ...]

_ROLES = (
    Role("messages", ("messages", "conversations", "conversation", "dialogue", "dialog"), is_required=False),
    Role("prompt", ("prompt", "instruction", "query", "question"), is_required=False),
    Role("input", ("input",), is_required=False),
    Role("completion", ("completion", "output", "response", "answer"), is_required=False),
    Role("system", ("system", "system_prompt"), is_required=False),
)
_TEMPLATES = ("base", "plain")


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Learn the assistant's answers of conversations; what others say is read, and not learnt.

    Conversations pass through the base's own chat template, so that contributors of one federation write alike. The
    whole model travels. A conversation that is longer than the model's limit goes on in another example.
    """

    template: str = "base"
    """Chat template: `base` for the base's own, and a plain one where it has none; `plain` for the plain one anyway."""

    name: ClassVar[str] = "instructions"
    metric: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    has_private_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a template that there is not."""
        if self.template not in _TEMPLATES:
            raise UserInputError(f"template is {self.template!r}, expected {' or '.join(_TEMPLATES)}")

    def read(self, request: DataRequest, *, like: Rows[Chat] | None = None) -> Rows[Chat]:  # noqa: ARG002 - as all
        """Read conversations; see `Task.read`."""
        records = read_cells(request, _ROLES)
        chats, num_empty = parse_rows(records, parse_chat)
        return Rows(rows=tuple(chats), options=self, report=said(records.report, num_empty=num_empty))

    def load(self, base_dir: Path, examples: Rows[Chat], settings: TrainingSettings) -> TaskModel:  # noqa: ARG002
        """Load the base with its language-modelling head; see `Task.load`."""
        from coldfuse.training.tasks.generating import load_generator

        loaded = load_generator(base_dir, settings)
        loaded.processor.require_offsets()
        return loaded

    def encode(self, loaded: TaskModel, examples: Rows[Chat]) -> list[Feature]:
        """Pass conversations through the chat template; see `Task.encode`."""
        tokenizer, size = loaded.processor.tokenizer, loaded.processor.intake.max_length
        template = PLAIN_TEMPLATE if self.template == "plain" or not tokenizer.chat_template else None
        features: list[Feature] = []
        for number, chat in enumerate(examples.rows, start=1):
            for whole in _encoded(tokenizer, chat, template, number):
                features += windows(whole, size=size)
        loaded.processor.require_rows(max((max(f["input_ids"]) for f in features), default=0))  # type: ignore[call-overload]
        return require_some(features, "the conversations have no answer with a token")

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Train what the base's files lack of the head, on the unchanged body; see `Task.start_head`."""
        from coldfuse.training.tasks.head_alone import train_alone

        train_alone(loaded, features, shifted=True)

    def score(self, loaded: TaskModel, examples: Rows[Chat], features: Sequence[Feature]) -> float:  # noqa: ARG002
        """Return the perplexity of the answers; see `Task.score`."""
        from coldfuse.training.tasks.scoring import perplexity

        return perplexity(loaded, features)


def _encoded(tokenizer: Any, chat: Chat, template: str | None, number: int) -> list[dict[str, list[int]]]:
    from jinja2 import TemplateError

    roles = ", ".join(dict.fromkeys(role for role, _ in chat))
    try:
        return encode_chat(tokenizer, chat, template=template)
    except ChatTemplateError as error:
        raise UserInputError(f"conversation {number}: {error}") from None
    except (TemplateError, *LIBRARY_FAILURES) as error:  # its text may quote a message
        raise UserInputError(
            f"conversation {number}: the base's chat template refuses its {len(chat)} messages (roles: {roles}; "
            f"{type(error).__name__}): it may take no system message, or want user and assistant in turn; take --task "
            "'instructions(template=plain)'"
        ) from None


def windows(whole: dict[str, list[int]], *, size: int) -> Iterator[Feature]:
    """Yield a conversation in pieces of at most `size` tokens, those that have something to learn.

    Each begins with the last token of the one before it, so that every token of an answer is predicted once.

    >>> whole = {"input_ids": [1, 2, 3, 4], "labels": [-100, -100, -100, 4]}
    >>> [window["input_ids"] for window in windows(whole, size=2)]
    [[3, 4]]
    """
    ids, labels = whole["input_ids"], whole["labels"]
    for start in range(0, max(len(ids) - 1, 0), max(size - 1, 1)):
        window = {"input_ids": ids[start : start + size], "labels": labels[start : start + size]}
        if any(label != NO_LABEL for label in window["labels"][1:]):
            yield {**window, "length": len(window["input_ids"])}
