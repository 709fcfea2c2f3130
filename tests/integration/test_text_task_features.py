"""What text tasks make of private data with real tokenizers and models: alignment, windows, templates, padding."""

import json

import numpy as np
import pytest
import torch
import transformers
from tiny_model import write_tiny_model
from tiny_texts import PROVERBS, rows_of, write_json_lines, write_text_model, write_text_tokenizer

from coldfuse.errors import UserInputError
from coldfuse.training.job import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.rows import NO_LABEL
from coldfuse.training.tasks.scoring import perplexity
from coldfuse.training.tasks.squad import Question, make_windows
from coldfuse.training.tasks.task import DataRequest
from coldfuse.training.tasks.words import align

SETTINGS = TrainingSettings(max_length=32, threads=1, device="cpu")
STITCH = Question(question="Which stitch?", context=PROVERBS[0], answers=("stitch",), starts=(2,))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    made = {kind: write_text_model(root / kind, kind) for kind in ("bert", "gpt2", "t5", "t5 v1.1", "llama")}
    return made | {"wordpiece": write_tiny_model(root / "wordpiece")}


@pytest.fixture(scope="module")
def tokenizers(folders):
    return {kind: transformers.AutoTokenizer.from_pretrained(folder) for kind, folder in folders.items()}


def read(task, rows, folder):
    return task.read(DataRequest(data=write_json_lines(folder / "rows.jsonl", rows)))


def load(line, kind, folders, tmp_path, rows=None):
    """Load a task's model on a base, with its examples and features."""
    task = find_task(line)
    examples = read(task, rows or rows_of(task.name), tmp_path)
    loaded = task.load(folders[kind], examples, SETTINGS)
    return task, loaded, examples, task.encode(loaded, examples)


def test_words_are_aligned_as_transformers_aligns_them(tokenizers):
    sentences = [proverb.split() for proverb in PROVERBS]
    pieces = align(tokenizers["wordpiece"], sentences, size=64)
    assert [piece["example"] for piece in pieces] == list(range(len(sentences)))
    for sentence, piece in zip(sentences, pieces, strict=True):
        reference = tokenizers["wordpiece"](sentence, is_split_into_words=True)
        assert piece["input_ids"] == reference["input_ids"]
        first = [word for place, word in enumerate(reference.word_ids()) if word not in reference.word_ids()[:place]]
        assert [word for word in piece["words"] if word != NO_LABEL] == [word for word in first if word is not None]


@pytest.mark.parametrize("kind", ["wordpiece", "gpt2"])
@pytest.mark.parametrize("size", [5, 8, 16])
def test_every_word_of_a_sentence_longer_than_the_model_is_tagged_once(tokenizers, kind, size):
    sentence = " ".join(PROVERBS[:4]).split()
    sentence[3:3] = ["", "two words"]
    pieces = align(tokenizers[kind], [sentence], size=size)
    assert len(pieces) > 1
    assert max(piece["length"] for piece in pieces) <= size
    words = [word for piece in pieces for word in piece["words"] if word != NO_LABEL]
    assert words == [word for word in range(len(sentence)) if sentence[word]]


@pytest.mark.parametrize("kind", ["wordpiece", "gpt2", "t5"])
def test_an_answer_is_found_in_a_window_of_a_long_text(tokenizers, kind):
    context = " ".join(PROVERBS[:12])
    questions = [
        Question(question=f"Which?{' really' * 40}", context=context, answers=(word,), starts=(context.index(word),))
        for word in ("stitch", "glitters", "policy", "leap")
    ]
    windows = make_windows(tokenizers[kind], questions, size=32, stride=8)
    found = set()
    for window in windows:
        assert window["length"] == len(window["input_ids"]) <= 32
        if window["start_positions"]:
            question = questions[window["example"]]
            first, last = window["places"][window["start_positions"]], window["places"][window["end_positions"]]
            text = question.context[first[0] : last[1]]
            assert question.answers[0] in text
            assert len(text) <= len(question.answers[0]) + 2  # a token may begin with the space before it
            found.add(window["example"])
    assert found == set(range(len(questions)))


@pytest.mark.parametrize("size", range(7, 12))
def test_with_few_tokens_windows_still_reach_the_end_of_the_text(tokenizers, size):
    windows = make_windows(tokenizers["wordpiece"], [STITCH], size=size, stride=64)
    assert max(window["length"] for window in windows) <= size
    assert [place for place in windows[-1]["places"] if place][-1][1] == len(PROVERBS[0])


def test_a_question_that_leaves_no_room_for_its_text_is_said(tokenizers):
    with pytest.raises(UserInputError, match=r"5 tokens leave no room .* choose a larger --max-length"):
        make_windows(tokenizers["wordpiece"], [STITCH], size=5, stride=64)


def test_an_end_of_sequence_is_learnt_where_it_also_pads(folders, tmp_path):
    _, loaded, _, features = load("text-generation(packed=no)", "gpt2", folders, tmp_path)
    end = loaded.processor.tokenizer.eos_token_id
    loaded.collate = type(loaded.collate)(loaded.collate.func, filler=end)
    batch = loaded.collate(features[:4])
    for row, feature in enumerate(features[:4]):
        length = feature["length"]
        assert batch["labels"][row, :length].tolist() == feature["input_ids"]
        assert set(batch["labels"][row, length:].tolist()) <= {NO_LABEL}
        assert batch["attention_mask"][row].sum() == length
        assert (feature["input_ids"][-1] == end) or length == 32


@pytest.mark.parametrize(
    ("line", "kind"),
    [("text-generation", "gpt2"), ("instructions", "llama"), ("fill-mask", "bert"), ("text2text-generation", "t5")],
)
@pytest.mark.usefixtures("float32")
def test_perplexity_is_that_of_each_token_by_itself(folders, tmp_path, line, kind):
    _, loaded, _, features = load(line, kind, folders, tmp_path)
    loaded.model.eval()
    total, count = 0.0, 0
    for feature in features:
        batch = loaded.collate([feature])
        with torch.no_grad():
            log_p = loaded.model(**batch).logits[0].log_softmax(-1)
        labels = batch["labels"][0]
        if kind in ("gpt2", "llama"):
            log_p, labels = log_p[:-1], labels[1:]
        for place, label in enumerate(labels.tolist()):
            if label != NO_LABEL:
                total, count = total - float(log_p[place, label]), count + 1
    assert perplexity(loaded, features) == pytest.approx(np.exp(total / count), rel=1e-4)


def test_the_padding_of_targets_is_not_learnt(folders, tmp_path):
    rows = [{"source": "Look.", "target": "No."}, {"source": "Practice makes perfect.", "target": "Yes, it does so."}]
    _, loaded, _, features = load("text2text-generation", "t5", folders, tmp_path, rows)
    batch = loaded.collate(features)
    for row, feature in enumerate(features):
        assert batch["labels"][row, : len(feature["labels"])].tolist() == feature["labels"]
        assert set(batch["labels"][row, len(feature["labels"]) :].tolist()) <= {NO_LABEL}
        assert feature["labels"][-1] == loaded.processor.tokenizer.eos_token_id


def test_a_model_that_sees_what_it_is_to_predict_cannot_learn_to_write(folders, tmp_path):
    with pytest.raises(UserInputError, match=r"sees the tokens that it is to predict.* --task fill-mask"):
        load("text-generation", "bert", folders, tmp_path)


@pytest.mark.parametrize(
    ("line", "kind"), [("fill-mask", "gpt2"), ("text2text-generation", "bert"), ("text-generation", "t5")]
)
def test_a_base_of_another_kind_is_refused_in_one_line(folders, tmp_path, line, kind):
    with pytest.raises(UserInputError, match=f": {kind} is an architecture without [A-Za-z0-9]+ in transformers; take"):
        load(line, kind, folders, tmp_path)


@pytest.mark.parametrize(
    ("line", "kind"),
    [("token-classification", "bert"), ("token-classification", "gpt2"), ("question-answering", "bert")],
)
def test_a_head_starts_as_the_best_one_on_the_unchanged_body(folders, tmp_path, line, kind):
    task, loaded, examples, features = load(line, kind, folders, tmp_path)
    body = {name: tensor.clone() for name, tensor in loaded.shared_part.state_dict().items()}
    before = task.score(loaded, examples, features)
    task.start_head(loaded, features)
    assert task.score(loaded, examples, features) > before
    assert all(torch.equal(tensor, body[name]) for name, tensor in loaded.shared_part.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_what_a_base_lacks_of_a_head_starts_the_same_whatever_the_memory_held(tmp_path):
    folder = tmp_path / "base"
    sizes = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "pad_token_id": 0}
    transformers.FNetModel(transformers.FNetConfig(**sizes, bos_token_id=2, eos_token_id=3)).save_pretrained(folder)
    write_text_tokenizer(folder, starts_with="<s>", ends_in="</s>")
    task, loaded, examples, features = load("fill-mask", "fnet", {"fnet": folder}, tmp_path)
    assert not loaded.model.cls.predictions.bias.any()
    before = task.score(loaded, examples, features)
    task.start_head(loaded, features)
    assert task.score(loaded, examples, features) < before < 1000


def test_tags_that_only_validation_has_count_as_not_found_and_are_said(folders, tmp_path):
    task, loaded, examples, features = load("token-classification", "bert", folders, tmp_path)
    task.start_head(loaded, features)
    row = rows_of(task.name)[0]
    strange = {**row, "ner_tags": ["B-NEW", *row["ner_tags"][1:]]}
    (tmp_path / "validation").mkdir()
    path = write_json_lines(tmp_path / "validation" / "rows.jsonl", [strange])
    validation = task.read(DataRequest(data=path), like=examples)
    assert validation.names == examples.names
    assert any("never predicted: B-NEW" in note for note in validation.report.notes)
    assert task.score(loaded, validation, task.encode(loaded, validation)) == 0.0


def test_what_is_wrong_in_a_file_is_said_with_its_place_and_without_its_content(tmp_path):
    task = find_task("token-classification")
    with pytest.raises(UserInputError, match=r"rows\.jsonl, line 2: 2 words with 1 tag") as caught:
        read(task, [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["SECRET", "b"], "tags": ["O"]}], tmp_path)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UserInputError, match=r"tags are numbers, and nothing says what they mean.*tag_names"):
        read(task, [{"tokens": ["a", "b"], "tags": [0, 1]}], tmp_path)
    named = find_task("token-classification(tag_names=O B-PER)")
    assert read(named, [{"tokens": ["a", "b"], "tags": [0, 1]}], tmp_path).rows[0].tags == ("O", "B-PER")


def test_columns_that_cannot_be_told_are_asked_for(tmp_path):
    rows = [{"ask": "Why?", "reply": "Because."}] * 2
    with pytest.raises(UserInputError, match=r"--column ROLE=NAME, for messages, prompt, input, completion, system"):
        read(find_task("instructions"), rows, tmp_path)
    columns = {"prompt": "ask", "completion": "reply"}
    request = DataRequest(data=tmp_path / "rows.jsonl", columns=columns)
    assert find_task("instructions").read(request).rows[0] == (("user", "Why?"), ("assistant", "Because."))


def test_conll_files_are_sentences(tmp_path):
    (tmp_path / "train.conll").write_text("-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nwon VBD B-VP O\n\nHe PRP B-NP O\n")
    examples = find_task("token-classification").read(DataRequest(data=tmp_path / "train.conll"))
    assert [(s.words, s.tags) for s in examples.rows] == [(("EU", "won"), ("B-ORG", "O")), (("He",), ("O",))]


def test_squads_own_file_is_read(tmp_path):
    asked = {"id": "1", "question": "Who wrote?", "answers": [{"text": "Ada", "answer_start": 0}]}
    article = {"title": "Ada", "paragraphs": [{"context": "Ada wrote.", "qas": [asked, {**asked, "answers": []}]}]}
    path = tmp_path / "train-v2.0.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [article]}))
    examples = find_task("question-answering").read(DataRequest(data=path))
    assert [question.answers for question in examples.rows] == [("Ada",), ()]
    assert any("1 question of 2 have no answer" in note for note in examples.report.notes)


def test_one_text_file_is_many_passages(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(PROVERBS * 3))
    examples = find_task("text-generation").read(DataRequest(data=path))
    assert len(examples) >= 20
    assert "".join(passage.text for passage in examples.rows) == path.read_text()
    assert any("read in parts" in note for note in examples.report.notes)
