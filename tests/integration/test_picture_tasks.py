"""Pictures are classified, and told by their texts; what cannot be decoded is refused by its file's name."""

import shutil
import struct
import zlib

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from tiny_pictures import picture, write_captions, write_clip, write_pictures, write_seeing_model

from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import Stopped, TrainingJob
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.pictures import Picture
from coldfuse.training.tasks.task import DataRequest

SETTINGS = TrainingSettings(num_epochs=2, batch_size=4, learning_rate=1e-3, device="cpu", threads=1)


def read(line, data, like=None, **options):
    return find_task(line).read(DataRequest(data=data, **options), like=like)


def train(line, base, examples, validation, settings=SETTINGS, **how):
    model = open_checkpoint(base)
    job = TrainingJob(
        base_dir=base, base_digest=model.digest(), schema_names=set(model.schema), round=1, train=examples,
        validation=validation, task=find_task(line),
    )  # fmt: skip
    return fine_tune(job, settings, **how)


@pytest.mark.parametrize("kind", ["ViTForImageClassification", "ConvNextForImageClassification"])
def test_a_head_of_its_own_starts_as_the_probe_and_what_the_base_had_does_not_travel(tmp_path, kind):
    base = write_seeing_model(tmp_path / "base", kind)
    examples = read("image-classification", write_pictures(tmp_path / "train"))
    held_out = read("image-classification", write_pictures(tmp_path / "held out", num=3, first=50), like=examples)
    done = train("image-classification", base, examples, held_out)
    assert (done.score_before, done.score_after) == (1.0, 1.0)  # red and blue: a probe of random features tells them
    assert {"head.weight", "head.bias"} <= set(done.private.tensors)
    assert set(open_checkpoint(base).schema) - set(done.tensors) == {"classifier.weight", "classifier.bias"}
    assert done.loss_after < done.loss_before
    steps = iter(range(10))
    how = {"checkpoint": tmp_path / "checkpoint", "stop": lambda: next(steps) == 4}
    stopped = train("image-classification", base, examples, held_out, **how)
    assert isinstance(stopped, Stopped)
    again = train("image-classification", base, examples, held_out, checkpoint=tmp_path / "checkpoint")
    assert again.resumed_at_step == stopped.step > 0
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in done.tensors.items())


def test_pictures_come_as_files_or_as_bytes_with_declared_classes(tmp_path):
    folder = write_pictures(tmp_path / "files", num=2)
    files = sorted(folder.rglob("*.*"))
    content = [{"bytes": path.read_bytes(), "path": None} for path in files]
    rows = pa.table({"img": content, "fine_label": [path.parent.name for path in files]})
    parquet.write_table(rows, tmp_path / "a.parquet")
    stored, found = read("image-classification", tmp_path / "a.parquet"), read("image-classification", folder)
    assert (stored.digest(), stored.label_names) == (found.digest(), ("blue", "red"))
    assert stored.pictures[0].open().getpixel((0, 0)) == found.pictures[0].open().getpixel((0, 0))
    assert len(read("image-classification", folder, limit=3)) == 3
    first = find_task("image-classification").split(found, validation_fraction=0.5, seed=0)[1]
    assert sorted(first.labels) == [0, 1]


def bomb(path):
    """Write a PNG of a few bytes that says to have 40,000 × 40,000 points."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "cannot be read as a picture"),
        (lambda path: path.write_bytes(b""), "cannot be read as a picture"),
        (lambda path: path.write_text("a text"), "cannot be read as a picture"),
        (
            lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "cannot be read as a picture",
        ),
        (bomb, "points; shrink it"),
    ],
)
@pytest.mark.parametrize("name", ["0.png", "1.jpg"])
def test_a_picture_that_cannot_be_decoded_is_refused_by_its_name(tmp_path, spoil, says, name):
    spoil(write_pictures(tmp_path / "in", num=2) / "red" / name)
    with pytest.raises(UserInputError, match=says) as caught:
        read("image-classification", tmp_path / "in")
    assert f"red/{name}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_large_picture_is_refused_and_a_small_one_of_any_mode_is_three_colours(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    picture("red", 0, size=12).save(tmp_path / "a.png")
    with pytest.raises(UserInputError, match="has more than 100 points"):
        Picture(place="a.png", path=tmp_path / "a.png").check()
    for mode in ("1", "L", "P", "RGBA", "CMYK", "I;16"):
        source = picture("red", 0, size=8)
        made = source.convert("L").convert("I").convert("I;16") if mode == "I;16" else source.convert(mode)
        made.save(tmp_path / "b.tiff")
        assert Picture(place="b", path=tmp_path / "b.tiff").open().mode == "RGB"


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip")


@pytest.mark.usefixtures("float32")
def test_pictures_and_texts_find_each_other_better_and_all_of_the_model_travels(tmp_path, clip):
    examples = read("contrastive-image-text", write_captions(tmp_path / "in", num=12))
    settings = TrainingSettings(num_epochs=12, batch_size=6, learning_rate=3e-3, device="cpu", threads=1, patience=12)
    done = train("contrastive-image-text", clip, examples, examples, settings)
    assert done.score_after > max(done.score_before, 0.5)  # of three colours, by chance a third
    assert set(done.tensors) == set(open_checkpoint(clip).schema)
    assert not done.private.tensors
    task = find_task("contrastive-image-text")
    loaded = task.load(clip, examples, settings)
    features = task.encode(loaded, examples)
    logits = loaded.model.eval()(**loaded.collate(features[:5])).logits_per_text
    targets = torch.arange(5)
    halves = [torch.nn.functional.cross_entropy(side, targets) for side in (logits, logits.T)]
    assert torch.allclose(loaded.model(**loaded.collate(features[:5])).loss, sum(halves) / 2)


def test_what_does_not_see_or_lacks_a_processor_is_refused_in_words(tmp_path, clip):
    examples = read("image-classification", write_pictures(tmp_path / "in", num=2))
    (clip / "preprocessor_config.json").unlink()
    with pytest.raises(UserInputError, match=r"no image processor in it; expected preprocessor_config.json"):
        find_task("image-classification").load(clip, examples, SETTINGS)
    shutil.rmtree(clip)
    write_seeing_model(clip, "BertForMaskedLM")
    with pytest.raises(UserInputError, match="BertModel takes input_ids, expected a model of pictures"):
        find_task("image-classification").load(clip, examples, SETTINGS)
    with pytest.raises(UserInputError, match="has no two towers"):
        find_task("contrastive-image-text").load(clip, examples, SETTINGS)
