import pytest
import torch

from coldfuse.training.checkpoint import Position, load_checkpoint, save_checkpoint

POSITION = Position(step=7, score_before=0.5, loss_before=0.7, score_best=0.75, best_epoch=2)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    tensors = {"a": torch.randn(3, 4), "scalar": torch.tensor(2.0), "empty": torch.empty(0, 4)}
    save_checkpoint(path, identity="x", position=POSITION, tensors=tensors)
    position, loaded = load_checkpoint(path, identity="x")
    assert position == POSITION
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_plain_safetensors(tmp_path):
    from safetensors.torch import load_file

    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, identity="x", position=POSITION, tensors={"a": torch.eye(2).T})
    assert torch.equal(load_file(path)["a"], torch.eye(2))


def test_a_missing_or_foreign_checkpoint_counts_as_absent(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    assert load_checkpoint(path, identity="x") is None
    save_checkpoint(path, identity="x", position=POSITION, tensors={"a": torch.ones(2)})
    assert load_checkpoint(path, identity="y") is None


@pytest.mark.parametrize("num_bytes", [0, 100, -1])
def test_a_torn_checkpoint_counts_as_absent(tmp_path, num_bytes, caplog):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, identity="x", position=POSITION, tensors={"a": torch.ones(2)})
    path.write_bytes(path.read_bytes()[:num_bytes])
    assert load_checkpoint(path, identity="x") is None
    assert "training starts anew" in caplog.text


@pytest.mark.parametrize("where", ["header", "position", "number"])
def test_a_flipped_bit_counts_as_absent_and_the_file_is_kept_aside(tmp_path, where):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, identity="x", position=POSITION, tensors={"a": torch.ones(2), "b": torch.zeros(2)})
    data = bytearray(path.read_bytes())
    at = {"header": data.index(b'"b"') + 1, "position": data.index(b'step\\": 7') + 8, "number": len(data) - 1}[where]
    data[at] ^= 1
    path.write_bytes(data)
    said = []
    assert load_checkpoint(path, identity="x", on_damage=said.append) is None
    assert (tmp_path / "checkpoint.safetensors.damaged").read_bytes() == data
    assert "training starts anew" in said[0]
    assert load_checkpoint(path, identity="x") is None


def test_a_checkpoint_of_an_older_version_says_no_digest(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr("coldfuse.training.checkpoint._SHA256", "something_else")
    save_checkpoint(path, identity="x", position=POSITION, tensors={"a": torch.ones(2)})
    monkeypatch.undo()
    assert load_checkpoint(path, identity="x")[0] == POSITION
