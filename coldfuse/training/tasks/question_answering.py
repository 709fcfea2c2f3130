"""Extractive question answering: find the part of a text that answers a question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from coldfuse.core.words import plural
from coldfuse.data.records import Role
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import Rows, parse_rows, read_cells, said
from coldfuse.training.tasks.squad import Question, best_answer, exact_match, make_windows, overlap_f1, parse_question
from coldfuse.training.tasks.task import DataRequest, Feature, TaskModel

if TYPE_CHECKING:
    from coldfuse.training.job import TrainingSettings

_ROLES = (
    Role("question", ("question", "query"), is_required=False),
    Role("context", ("context", "passage", "paragraph", "document", "text"), is_required=False),
    Role("answers", ("answers", "answer", "answer_text"), is_required=False),
    Role("answer_start", ("answer_start", "start"), is_required=False),
    Role("paragraphs", ("paragraphs",), is_required=False),
)
_F1, _EXACT = "F1", "exact match"
_NONE = "has_questions_without_answer"


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering:
    """Find the answer to a question in a text, with a private linear layer that tells its first and last token.

    Texts that are longer than the model's limit are read in windows that overlap. Where some questions have no answer,
    the first token stands for none (SQuAD 2, arXiv 1806.03822).
    """

    stride: int = 64
    """Tokens that the windows of a long text have in common with the one before."""
    score_by: str = _F1
    """What chooses the best epoch: `F1` of the words, or `exact match`."""

    name: ClassVar[str] = "question-answering"
    higher_is_better: ClassVar[bool] = True
    has_private_head: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what cannot be scored by, or strides that go nowhere."""
        if self.score_by not in (_F1, _EXACT):
            raise UserInputError(f"score_by is {self.score_by!r}, expected {_F1} or {_EXACT}")
        if self.stride < 0:
            raise UserInputError(f"stride is {self.stride}, expected 0 or more")

    @property
    def metric(self) -> str:
        """Name of what `score` measures."""
        return self.score_by

    def read(self, request: DataRequest, *, like: Rows[Question] | None = None) -> Rows[Question]:  # noqa: ARG002
        """Read questions as SQuAD has them, in a table or in its own files; see `Task.read`."""
        records = read_cells(request, _ROLES)
        questions, num_empty = parse_rows(records, parse_question)
        none = sum(not question.answers for question in questions)
        notes = [f"{plural(none, 'question')} of {len(questions):,} have no answer in their text"] if none else []
        if none == len(questions):
            raise UserInputError(
                "no question has an answer; name the column of the answers with --column answers=NAME: `text` and "
                "`answer_start`, or the text of the answer"
            )
        return Rows(rows=tuple(questions), options=self, report=said(records.report, num_empty=num_empty, notes=notes))

    def load(self, base_dir: Path, examples: Rows[Question], settings: TrainingSettings) -> TaskModel:
        """Put a layer for first and last token on the base's body; see `Task.load`."""
        from coldfuse.training.tasks.models import body_of, load_model
        from coldfuse.training.tasks.spans import span_batches

        loaded = load_model(base_dir, "AutoModelForQuestionAnswering", settings)
        loaded.processor.require_offsets()
        loaded.body = body_of(loaded.model)
        loaded.collate = span_batches(loaded)
        loaded.notes = {_NONE: str(any(not question.answers for question in examples.rows))}
        return loaded

    def encode(self, loaded: TaskModel, examples: Rows[Question]) -> list[Feature]:
        """Cut the texts into windows; see `Task.encode`."""
        size = loaded.processor.intake.max_length
        windows = make_windows(loaded.processor.tokenizer, examples.rows, size=size, stride=self.stride)
        loaded.processor.require_rows(max((max(window["input_ids"]) for window in windows), default=0))
        return list(windows)

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Make the layer the best one on the unchanged body; see `Task.start_head`."""
        from coldfuse.training.tasks.probing import probe_spans

        probe_spans(loaded, features)

    def score(self, loaded: TaskModel, examples: Rows[Question], features: Sequence[Feature]) -> float:
        """Return the mean over all questions of F1 or exact match, by SQuAD's rules; see `Task.score`."""
        from coldfuse.training.tasks.scoring import run_over

        windows: defaultdict[int, list[Any]] = defaultdict(list)
        for indices, _, output in run_over(loaded, features):
            starts, ends = output.start_logits.float().tolist(), output.end_logits.float().tolist()
            for index, start, end in zip(indices, starts, ends, strict=True):
                feature: Any = features[index]
                windows[feature["example"]].append((feature["places"], start, end))
        may_be_none = loaded.notes[_NONE] == str(True)
        measure = overlap_f1 if self.score_by == _F1 else exact_match
        scores = [
            measure(best_answer(windows[number], question.context, may_be_none=may_be_none), question.answers)
            for number, question in enumerate(examples.rows)
        ]
        return sum(scores) / len(scores)
