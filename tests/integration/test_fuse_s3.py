"""Fusing what lies in S3, byte for byte as if it lay in folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import run_coldfuse
from float8_models import BLOCKS, quantise, write
from folder_fusions import fuse
from model_folders import listed, read_files, write_modules, write_pipeline
from tiny_rounds import finetune, make_model, write_model

from coldfuse.config import prepare_ray
from coldfuse.engine.execution import ThreadExecutor, ray_executor
from coldfuse.engine.outputs import Output
from coldfuse.errors import CodecError, SchemaMismatchError, StorageError, UserInputError
from coldfuse.storage import open_store
from coldfuse.tensors.checkpoint import open_checkpoint, require_unchanged
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.files import find_object
from coldfuse.tensors.folders import RemoteFolder
from coldfuse.tensors.tensor_file import open_tensors, read_file_header

MODEL = make_model()


def upload(path: Path, url: str) -> str:
    """Put a folder's files, or one file, as they are under `url`; return it."""
    store = open_store(url if path.is_dir() else url.rpartition("/")[0])
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    for key, file in files.items() if path.is_dir() else [(url.rpartition("/")[2], path)]:
        assert store.put_if_absent(key, file.read_bytes())
    return url


@pytest.fixture
def local(tmp_path: Path) -> list[Path]:
    """A base in two files, and three models."""
    models = [write_model(tmp_path / f"m{seed}", finetune(MODEL, seed), num_files=1 + seed) for seed in range(3)]
    return [write_model(tmp_path / "base", MODEL, num_files=2), *models]


@pytest.fixture
def remote(local: list[Path], s3_url: str) -> list[str]:
    """The same in S3."""
    return [upload(path, f"{s3_url}/{path.name}") for path in local]


@pytest.mark.parametrize("method", ["clip then ties", "dare then mean then nesterov"])
def test_models_in_s3_are_fused_to_the_same_bytes(
    tmp_path: Path, local: list[Path], remote: list[str], method: str
) -> None:
    expected = fuse(local[0], local[1:], tmp_path / "expected", method)
    assert fuse(remote[0], remote[1:], tmp_path / "remote", method) == expected
    mixed = [remote[3], local[1], remote[2] + "/"]
    assert fuse(local[0], mixed, tmp_path / "mixed", method) == expected
    for file in (tmp_path / "expected").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "remote" / file.relative_to(tmp_path / "expected")).read_bytes()


@pytest.mark.parametrize("write", [write_modules, write_pipeline])
def test_folders_of_folders_in_s3_are_fused_to_the_same_files(tmp_path: Path, s3_url: str, write) -> None:
    more = {"README.md": "x", "onnx/model.onnx": "x"}
    local = [write(tmp_path / str(seed), seed, **more) for seed in range(3)]
    remote = [upload(path, f"{s3_url}/{path.name}") for path in local]
    assert fuse(remote[0], remote[1:], tmp_path / "remote") == fuse(local[0], local[1:], tmp_path / "expected")
    assert listed(tmp_path / "remote") == listed(tmp_path / "expected")
    assert read_files(tmp_path / "remote") == read_files(tmp_path / "expected")
    said = [open_checkpoint(where).left_out("base", how="") for where in (local[0], remote[0])]
    assert said[0] == said[1] != ()


def test_a_checkpoint_of_one_file_in_s3_is_a_model(tmp_path: Path, local: list[Path], s3_url: str) -> None:
    files = [local[n] / "model.safetensors" for n in (1,)]
    remote = [upload(file, f"{s3_url}/{n}.safetensors") for n, file in enumerate(files)]
    assert fuse(remote[0], [local[3]], tmp_path / "out.safetensors") == fuse(local[1], [local[3]], tmp_path / "folder")
    assert (tmp_path / "out.safetensors").is_file()


def test_a_base_in_s3_hands_on_its_state(tmp_path: Path, local: list[Path], remote: list[str], s3_url: str) -> None:
    method = "mean then nesterov"
    fuse(local[0], local[1:], tmp_path / "first", method)
    expected = fuse(tmp_path / "first", local[1:], tmp_path / "second", method)
    first = upload(tmp_path / "first", f"{s3_url}/first")
    assert fuse(first, remote[1:], tmp_path / "again", method) == expected


def test_a_delta_in_s3_counts_like_one_at_hand(
    tmp_path: Path, local: list[Path], remote: list[str], s3_url: str
) -> None:
    delta = tmp_path / "delta.safetensors"
    fuse(remote[0], local[1:2], delta, output=Output(kind="delta"))
    in_s3 = upload(delta, f"{s3_url}/deltas/one.safetensors")
    expected = fuse(local[0], [delta, local[2]], tmp_path / "expected")
    assert fuse(remote[0], [local[2], in_s3], tmp_path / "out") == expected
    other = write_model(tmp_path / "other", finetune(MODEL, 9))
    with pytest.raises(SchemaMismatchError, match=r"deltas/one\.safetensors: made from base"):
        fuse(other, [in_s3], tmp_path / "refused")


def test_an_adapter_in_s3_counts_like_one_at_hand(
    tmp_path: Path, local: list[Path], remote: list[str], s3_url: str
) -> None:
    for seed in (1, 2):
        fuse(local[0], local[seed : seed + 1], tmp_path / f"a{seed}", output=Output(kind="adapter", rank=2))
    adapters = [tmp_path / "a1", tmp_path / "a2"]
    in_s3 = [upload(path, f"{s3_url}/{path.name}") for path in adapters]
    expected = fuse(local[0], [*adapters, local[1]], tmp_path / "expected", "ties")
    assert expected != fuse(local[0], [local[1]], tmp_path / "alone", "ties")
    assert fuse(remote[0], [remote[1], in_s3[0] + "/", adapters[1]], tmp_path / "mixed", "ties") == expected
    executor = ThreadExecutor(2, memory_bytes=64 << 20)
    assert fuse(remote[0], [remote[1], *in_s3], tmp_path / "out", "ties", executor=executor) == expected


def test_a_model_in_s3_has_the_digest_of_its_folder(local: list[Path], remote: list[str]) -> None:
    opened = open_checkpoint(remote[3])
    assert isinstance(opened.folder, RemoteFolder)
    assert opened.digest() == open_checkpoint(local[3]).digest()
    assert opened.plain == open_checkpoint(local[3]).plain


def test_ray_reads_from_s3_too(tmp_path: Path, local: list[Path], remote: list[str]) -> None:
    expected = fuse(local[0], local[1:], tmp_path / "expected")
    prepare_ray()
    with ray_executor(None, num_cpus=2) as executor:
        assert fuse(remote[0], remote[1:], tmp_path / "out", executor=executor) == expected


def test_little_memory_is_enough(tmp_path: Path, local: list[Path], remote: list[str]) -> None:
    expected = fuse(local[0], local[1:], tmp_path / "expected")
    executor = ThreadExecutor(1, memory_bytes=12 << 20)
    assert fuse(remote[0], remote[1:], tmp_path / "out", executor=executor) == expected


def test_what_is_not_there_or_no_model_is_said(
    tmp_path: Path, local: list[Path], remote: list[str], s3_url: str
) -> None:
    store = open_store(f"{s3_url}/adapter")
    store.put_if_absent("adapter_config.json", b"{}")
    store.put_if_absent("adapter_model.safetensors", b"")
    open_store(f"{s3_url}/bare").put_if_absent("adapter_config.json", b"{}")
    for url, says in [
        (f"{s3_url}/nothing", "nothing: expected a Hugging Face model folder, but it has no config.json"),
        (f"{s3_url}/adapter", "adapter_model.safetensors: 0 bytes are too few for a safetensors file"),
        (f"{s3_url}/bare", "bare: it has adapter_config.json but no adapter_model.safetensors"),
        (f"{s3_url}/adapter/adapter_model.safetensors", "0 bytes are too few for a safetensors file"),
    ]:
        with pytest.raises((UserInputError, CodecError), match=says):
            fuse(local[0], [url], tmp_path / "out")


def test_an_index_that_names_what_is_not_there_is_refused(tmp_path: Path, local: list[Path], remote: list[str]) -> None:
    open_store(remote[3]).delete("model-00003-of-00003.safetensors")
    with pytest.raises(UserInputError, match=r"names model-00003-of-00003\.safetensors, which is not there"):
        fuse(local[0], [remote[3]], tmp_path / "out")


def test_an_object_that_was_replaced_meanwhile_is_noticed(remote: list[str]) -> None:
    found = find_object(remote[1], "model.safetensors")
    assert found is not None
    source = open_tensors(found)
    require_unchanged([source.file])
    store = open_store(remote[1])
    data, etag = store.get_with_etag("model.safetensors")
    store.compare_and_swap("model.safetensors", data[:-1] + b"x", etag=etag)
    with pytest.raises(StorageError, match=r"model\.safetensors: was replaced or removed while it was read"):
        require_unchanged([source.file])


def test_fp8_in_s3_is_read_and_must_stay_as_it_is_too(tmp_path: Path, s3_url: str) -> None:
    weight, scale, _ = quantise(torch.randn(64, 48), 16, 6, block=(4, 8))
    base = write(
        tmp_path / "base",
        {"model-00001-of-00002.safetensors": {"w": weight}, "model-00002-of-00002.safetensors": {"w_scale_inv": scale}},
        {"quantization_config": BLOCKS},
    )
    url = upload(base, f"{s3_url}/base")
    assert fuse(url, [url], tmp_path / "out") == fuse(base, [base], tmp_path / "expected")
    opened = open_as_floats(open_checkpoint(url))
    store = open_store(url)
    data, etag = store.get_with_etag("model-00002-of-00002.safetensors")
    store.compare_and_swap("model-00002-of-00002.safetensors", data[:-1] + b"x", etag=etag)
    with pytest.raises(StorageError, match=r"00002\.safetensors: was replaced or removed while it was read"):
        require_unchanged([file.file for file in opened.files.values()])


def test_the_command_reads_s3_and_makes_a_delta_or_an_adapter(tmp_path: Path, remote: list[str]) -> None:
    delta, adapter = tmp_path / "delta.safetensors", tmp_path / "adapter"
    made = run_coldfuse("fuse", *remote, "--as", "delta", "--dtype", "BF16", "--out", delta)
    assert made.wait() == 0, str(made)
    assert {entry.spec.dtype for entry in read_file_header(delta).tensors} == {"BF16"}
    made = run_coldfuse("fuse", *remote, "--as", "adapter", "--rank", 4, "--out", adapter)
    assert made.wait() == 0, str(made)
    assert any(line.startswith("the adapter is off by ") for line in made.lines)
    assert "dropped: scale, whose delta has norm" in "\n".join(made.lines)
    assert made.lines[-1].startswith("digest ")
    fuse(remote[0], [delta, adapter], tmp_path / "both")


def test_the_command_takes_a_model_from_the_hubs_cache(tmp_path: Path, local: list[Path], monkeypatch) -> None:
    cached = tmp_path / "hub" / "models--lab--base"
    write_model(cached / "snapshots" / ("a" * 40), MODEL)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = fuse(local[0], local[1:], tmp_path / "expected")
    made = run_coldfuse("fuse", "lab/base", *local[1:], "--shard-size", "1KB", "--out", tmp_path / "out")
    assert made.wait() == 0, str(made)
    assert made.lines[-1] == f"digest {expected}"
    assert (tmp_path / "out" / "model-00001-of-00002.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing.safetensors"], "nothing.safetensors: no such file"),
        (["./nothing"], "./nothing: no such folder"),
        (["--as", "adapter"], "--rank: an adapter needs one"),
        (["--as", "delta", "--shard-size", "5GB"], "--shard-size is for models"),
    ],
)
def test_the_command_says_in_one_line_what_cannot_be(
    tmp_path: Path, local: list[Path], words: list[str], says: str
) -> None:
    made = run_coldfuse("fuse", *local, *words, "--out", tmp_path / "out")
    assert made.wait() == 1
    assert len(made.errors) == 1
    assert says in made.errors[0]
