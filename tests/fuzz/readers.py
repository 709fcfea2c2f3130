"""The table of everything that reads bytes from elsewhere, by name."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from PIL import Image
from reviews import write_reviews
from tiny_rounds import make_changes, make_model, write_model

from coldfuse.adapters.adapter import open_adapter
from coldfuse.adapters.config import parse_adapter_config
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.dtypes import to_floats
from coldfuse.core.federation import RoundRules, SettingsChange, Terms
from coldfuse.core.names import Identity
from coldfuse.core.release import Channel, FusedContribution, ReleaseManifest
from coldfuse.core.round import EVENT
from coldfuse.core.schema import Schema, size_of
from coldfuse.core.serialization import decode, decode_any, encode, sha256
from coldfuse.data.reading import read_dataset
from coldfuse.data.records import Role, read_records
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.proxies import grpc_proxy
from coldfuse.recipes.reading import read_recipe_file
from coldfuse.recipes.weights_file import read_weights_file
from coldfuse.registry.chain import Head
from coldfuse.registry.channels import check_channel
from coldfuse.registry.lease import LeaseRecord
from coldfuse.storage.keys import check_key
from coldfuse.tensors.changes import LowRankChange, SparseChange, write_changes
from coldfuse.tensors.checkpoint import open_checkpoint, open_tensors_at
from coldfuse.tensors.deltas import check_delta, delta_header
from coldfuse.tensors.encodings import Encoded, part_name
from coldfuse.tensors.header import format_header, read_header
from coldfuse.tensors.index import check_index
from coldfuse.tensors.masks import counts_of, open_mask, write_mask
from coldfuse.tensors.parts import plan_parts
from coldfuse.tensors.statistics import StatisticsInfo, check_statistics, statistics_header
from coldfuse.training.tasks.pictures import Picture
from coldfuse.transport.address import parse_address
from coldfuse.transport.text import plain
from coldfuse.trust.envelope import detached
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.model_signature import read_signature, sign_files
from coldfuse.trust.provenance import read_statement, statement_of
from coldfuse.trust.tls import TlsFiles, load
from fuzz.running import Reader

MODEL = make_model()
SCHEMA: Schema = {name: tensor.spec for name, tensor in MODEL.items()}
DIGEST = sha256(b"x")


MODEL_KEY = PrivateKey.generate_p256()
BUNDLE = json.loads(sign_files({"config.json": DIGEST, "1_Pooling/config.json": DIGEST}, name="x", signer=MODEL_KEY))
STATEMENT = base64.b64decode(BUNDLE["dsseEnvelope"]["payload"])
PROVENANCE = statement_of(
    ReleaseManifest(
        federation=DIGEST, release=1, parent=0, round=1, method="mean", model_digest=DIGEST, files={}, created_at_s=1.0,
        contributions=(
            FusedContribution(
                contribution=DIGEST, contributor="ada", delta_digest=DIGEST, num_examples=1, weight=1.0
            ),
        ),
    ),
    digest=DIGEST, parent=DIGEST, files=DIGEST, terms=Terms(rules=RoundRules(), method="mean"), journal_head=DIGEST,
)  # fmt: skip


def bundle_of(statement: bytes) -> bytes:
    """Return a bundle of a model signature with this statement, signed as it should be."""
    envelope = {
        "payload": base64.b64encode(statement).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": "", "sig": detached(statement, "provenance", MODEL_KEY).sig}],
    }
    return json.dumps(BUNDLE | {"dsseEnvelope": envelope}).encode()


def text(read: Callable[[str], object], *seeds: str) -> Reader:
    """Return a reader of what people and variables say."""
    return Reader(lambda data: read(data.decode(errors="surrogateescape")), tuple(seed.encode() for seed in seeds))


def file(path: Path, read: Callable[[], object], *seeds: bytes, is_slow: bool = True) -> Reader:
    """Return a reader of a file, whose content the bytes are."""

    def read_file(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    return Reader(read_file, seeds, is_slow=is_slow)


def all_readers(root: Path, stack: ExitStack) -> dict[str, Reader]:
    """Return every reader; the folder is theirs, and the stack ends what they have started."""
    from fuzz.networked import networked_readers
    from fuzz.signed import signed_readers
    from fuzz.stored import stored_readers

    folders = [root / name for name in ("folders", "stored")]
    for folder in folders:
        folder.mkdir()
    found = plain_readers() | folder_readers(folders[0]) | stored_readers(folders[1]) | networked_readers(stack)
    found |= signed_readers(root / "home")
    return dict(sorted(found.items()))


def plain_readers() -> dict[str, Reader]:
    """Readers that need no folder."""
    return {
        "address": text(parse_address, "127.0.0.1:7700", "[::1]:80", "gateway.example.org:443"),
        "channel": text(check_channel, "latest", "stable"),
        "duration": text(parse_duration, "90s", "15m", "2h"),
        "size": text(parse_size, "2GiB", "512MB"),
        "key": text(check_key, "objects/abc", "rounds/00001/head"),
        "name": text(Identity.of, "alice", "Klinik Köln", "北京协和医院", "نویسه‌ها"),
        "recipe": text(read_recipe, "mean", "ties(density=0.3, scale=1) then nesterov", "dare(drop=0.5) then mean"),
        "wire text": text(plain, "a sentence", "\x1b[2J"),
        "proxy host": text(grpc_proxy, "example.org", "127.0.0.1"),
        "adapter config": Reader(lambda data: parse_adapter_config(data, what="a"), (LORA_CONFIG,)),
        "index": Reader(lambda data: check_index(data, {"x", "y"}, "i"), (INDEX,)),
        "safetensors header": Reader(_read_header, (SAFETENSORS, delta())),
        "delta": Reader(_read_delta, (delta(), delta("BF16"))),
        "encoded delta": Reader(_read_encoded, (encoded("low-rank"), encoded("sparse"))),
        "mask": Reader(_read_mask, (encoded("mask"),)),
        "statistics": Reader(_read_statistics, statistics()),
        **{name: value_reader(kind, *seeds) for name, (kind, seeds) in VALUES.items()},
        "model signature": Reader(lambda data: read_signature(data, [MODEL_KEY.public]), (bundle_of(STATEMENT),)),
        "model statement": Reader(lambda data: read_signature(bundle_of(data), [MODEL_KEY.public]), (STATEMENT,)),
        "provenance": Reader(read_statement, (PROVENANCE,)),
        "journal entry": Reader(lambda data: decode_any(EVENT, data, what="e"), EVENTS),
    }


def value_reader(kind: type, *documents: Mapping[str, object]) -> Reader:
    """Return a reader of a stored value; what was read is written again."""
    seeds = tuple(json.dumps(document).encode() for document in documents)
    return Reader(lambda data: encode(decode(kind, data, what="v")), seeds)


def folder_readers(root: Path) -> dict[str, Reader]:
    """Readers of files in a model's, an adapter's and a user's folder."""
    model, sharded = write_model(root / "model", MODEL), write_model(root / "sharded", MODEL, num_files=2)
    config = (model / "config.json").read_bytes()
    index = (sharded / "model.safetensors.index.json").read_bytes()
    adapter = root / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_bytes(LORA_CONFIG)
    (adapter / "adapter_model.safetensors").write_bytes(LORA)
    readers = {
        "model config": file(model / "config.json", lambda: open_checkpoint(model), config, *CONFIGS),
        "model file": file(
            model / "model.safetensors",
            lambda: open_checkpoint(model).digest(),
            (model / "model.safetensors").read_bytes(),
        ),
        "model index": file(sharded / "model.safetensors.index.json", lambda: open_checkpoint(sharded).digest(), index),
        "delta file": file(root / "delta.safetensors", lambda: open_tensors_at(root / "delta.safetensors"), delta()),
        "adapter's config": file(adapter / "adapter_config.json", lambda: _read_adapter(root / "adapter"), LORA_CONFIG),
        "recipe file": file(root / "r.yaml", lambda: read_recipe_file(root / "r.yaml", _no_base), *RECIPES),
        "weights file": file(root / "w.json", lambda: read_weights_file(root / "w.json", ["a", "b"]), *WEIGHTS),
        "certificate": file(root / "ca.pem", lambda: load(TlsFiles(ca=root / "ca.pem")), PEM),
    }
    return readers | data_readers(root / "data")


def data_readers(root: Path) -> dict[str, Reader]:
    """Readers of private data in every form."""
    root.mkdir()
    csv = write_reviews(root / "seed.csv", num=10).read_bytes()
    rows = [{"text": f"a film {index}", "label": ["bad", "good"][index % 2]} for index in range(10)]
    table = pa.table({name: [row[name] for row in rows] for name in ("text", "label")})
    pa.parquet.write_table(table, root / "seed.parquet")
    pa.feather.write_feather(table, root / "seed.arrow", compression="uncompressed")
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    seeds = {
        "csv": (csv, csv.replace(b",", b";"), csv.decode().encode("utf-16")),
        "tsv": (csv.replace(b",", b"\t"),),
        "json": (json.dumps(rows).encode(), json.dumps({"text": list("abcdefghij"), "label": [0, 1] * 5}).encode()),
        "jsonl": (lines,),
        "parquet": ((root / "seed.parquet").read_bytes(),),
        "arrow": ((root / "seed.arrow").read_bytes(),),
        "csv.gz": (gzip.compress(csv),),
    }
    readers = {}
    for ending, samples in seeds.items():
        path = root / f"data.{ending}"
        readers[f"data {ending}"] = file(path, lambda path=path: read_dataset(path), *samples)
    (root / "card").mkdir()
    (root / "card" / "data.csv").write_bytes(csv)
    card = file(
        root / "card" / "card.json",
        lambda: read_dataset(root / "card" / "data.csv"),
        b'{"label_names": ["negative", "positive"]}',
    )
    return readers | {"data card": card} | record_readers(root)


def record_readers(root: Path) -> dict[str, Reader]:
    """Readers of private data that are no table of texts."""
    text, tokens, tags = Role("text", ("text",)), Role("tokens", ("tokens",)), Role("tags", ("tags", "pos_tags"))
    nested = [{"text": {"body": "a", "by": [{"name": "b"}]}}, {"text": {"body": None}}]
    table = pa.Table.from_pylist(nested)
    pa.parquet.write_table(table, root / "nested.seed")
    connection = sqlite3.connect(root / "seed.db")
    with connection:
        connection.execute("create table notes(text)")
        connection.executemany("insert into notes values (?)", [("a",), ("b",)])
    connection.close()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(root / "seed.png")
    names = {"conll": "data.conll", "text": "plain.txt", "nested json": "nested.json", "nested parquet": "nested.pq",
             "database": "notes.db", "picture": "picture.png"}  # fmt: skip
    paths = {kind: root / name for kind, name in names.items()}
    query = f"sqlite:///{paths['database']}?query=SELECT text FROM notes"
    universal = b"1-2\ta\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\tb\tNOUN\t_\t_\t0\troot\t_\t_\n"
    reads: dict[str, tuple[Callable[[], object], tuple[bytes, ...]]] = {
        "conll": (lambda: read_records(paths["conll"], [tokens, tags]), (b"-DOCSTART- O\n\na B-X\n\nc O\n", universal)),
        "text": (lambda: read_records(paths["text"], [text]), (b"one\n\ntwo\n", "\ufeffzwölf".encode("utf-16"))),
        "nested json": (
            lambda: read_records(paths["nested json"], [text], columns={"text": "text.by.name"}),
            (json.dumps(nested).encode(),),
        ),
        "nested parquet": (
            lambda: read_records(paths["nested parquet"], [text], columns={"text": "text.body"}),
            ((root / "nested.seed").read_bytes(),),
        ),
        "database": (lambda: read_records(query, [text]), ((root / "seed.db").read_bytes(),)),
        "picture": (
            lambda: Picture(place="a picture", path=paths["picture"]).check(), ((root / "seed.png").read_bytes(),)
        ),
    }  # fmt: skip
    return {f"data {kind}": file(paths[kind], read, *samples) for kind, (read, samples) in reads.items()}


def delta(encoding: str = "F32") -> bytes:
    changes = make_changes(MODEL, 1)
    header = delta_header(SCHEMA, changes, encoding=encoding, base_digest=DIGEST)
    size = 4 if encoding == "F32" else 2
    return header + bytes(size * sum(change.size for change in changes.values()))


def encoded(what: str) -> bytes:
    """Return a delta of factors or of single elements, values at a mask's elements, or the mask."""
    rng = np.random.default_rng(1)
    name, some = "embeddings.weight", np.sort(rng.choice(400, 40, replace=False)).astype(np.int64)
    with TemporaryDirectory() as folder:
        path, mask = Path(folder) / "delta", Path(folder) / "mask"
        write_mask(mask, SCHEMA, {name: some})
        if what == "mask":
            return mask.read_bytes()
        change = SparseChange(some, rng.normal(size=40))
        if what == "low-rank":
            change = LowRankChange(rng.normal(size=(50, 2)), rng.normal(size=(2, 8)), 0.5)
        used = open_mask(mask) if what == "masked" else None
        write_changes(path, SCHEMA, {name: change}, dtype="F32", base_digest=DIGEST, mask=used)
        return path.read_bytes()


def statistics() -> tuple[bytes, ...]:
    fisher = StatisticsInfo(kind="fisher", estimator="exact", model=DIGEST, num_examples=2, over="examples", count=2)
    gram = StatisticsInfo(
        kind="gram", estimator="inputs", model=DIGEST, num_examples=2, over="tokens", count=9, padding="excluded"
    )
    return tuple(statistics_header({"layer.weight": (8, 8)}, info) + bytes(256) for info in (fisher, gram))


def _reader(data: bytes) -> Callable[[memoryview, int], None]:
    def read(buffer: memoryview, start: int) -> None:
        assert start + len(buffer) <= len(data), "read beyond the file"
        buffer[:] = data[start : start + len(buffer)]

    return read


def _read_header(data: bytes) -> object:
    header = read_header(_reader(data), file_bytes=len(data), what="f")
    return plan_parts(header)


def _read_delta(data: bytes) -> object:
    header = read_header(_reader(data), file_bytes=len(data), what="f")
    check_delta(header, SCHEMA, base_digest=DIGEST, what="f")
    return plan_parts(header)


def _read_encoded(data: bytes) -> object:
    header = read_header(_reader(data), file_bytes=len(data), what="f")
    found = check_delta(header, SCHEMA, base_digest=DIGEST, what="f", mask=header)
    return [_expand(name, how, data, data) for name, how in found.items()]


def _read_mask(data: bytes) -> object:
    header = read_header(_reader(data), file_bytes=len(data), what="m")
    counts_of(header, what="m")
    own = encoded("masked")
    delta = read_header(_reader(own), file_bytes=len(own), what="f")
    found = check_delta(delta, SCHEMA, base_digest=DIGEST, what="f", mask=header)
    return [_expand(name, how, own, data) for name, how in found.items()]


def _expand(name: str, how: Encoded, own: bytes, mask: bytes) -> np.ndarray:
    """Expand a tensor's change; what is stored of it lies in a delta or in its mask."""

    def read(part: str, first: int, count: int) -> np.ndarray:
        data = mask if part in how.mask_parts else own
        header = read_header(_reader(data), file_bytes=len(data), what="f")
        entry = next(entry for entry in header.tensors if entry.name == part_name(name, part))
        raw = np.empty(size_of(entry.spec.dtype, count), np.uint8)
        assert first * 8 <= 8 * entry.spec.num_elements - 8 * count, "read beyond the tensor"
        _reader(data)(raw.data, entry.start + size_of(entry.spec.dtype, first))
        return raw if entry.spec.dtype == "U8" else to_floats(raw, entry.spec.dtype).astype(np.float64)

    return how.delta(SCHEMA[name].shape, read, 0, SCHEMA[name].num_elements)


def _read_statistics(data: bytes) -> object:
    header = read_header(_reader(data), file_bytes=len(data), what="s")
    kind = "gram" if header.metadata.get("kind") == "gram" else "fisher"
    return check_statistics(header, SCHEMA, kind=kind, what="s")


def _read_adapter(path: Path) -> object:
    schema = {"layer.weight": SCHEMA["layer.weight"]}
    return open_adapter(path, schema, what="a", base_config={"model_type": "tiny"})


def _no_base(name: str) -> object:
    raise UserInputError(f"{name}: no such base")


def _lora() -> bytes:
    from coldfuse.core.schema import TensorSpec

    specs = {
        "base_model.model.layer.lora_A.weight": TensorSpec(dtype="F32", shape=(2, 8)),
        "base_model.model.layer.lora_B.weight": TensorSpec(dtype="F32", shape=(8, 2)),
    }
    return format_header(list(specs.items()), {"format": "pt"}) + np.ones(32, np.float32).tobytes()


LORA = _lora()
LORA_CONFIG = json.dumps({
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["layer"], "bias": "none", "task_type": None,
    "base_model_name_or_path": "tiny", "fan_in_fan_out": False, "rank_pattern": {}, "alpha_pattern": {"layer": 3},
}).encode()  # fmt: skip
INDEX = json.dumps({"metadata": {"total_size": 8}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
SAFETENSORS = format_header([(name, tensor.spec) for name, tensor in MODEL.items()], {"format": "pt"}) + b"".join(
    tensor.data for tensor in MODEL.values()
)
CONFIGS = (
    b'{"model_type": "bert", "architectures": ["BertModel"], "auto_map": {"AutoModel": "modeling.My"}}',
    b'{"model_type": "x", "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}}',
    b'{"tie_word_embeddings": true, "hidden_size": 8, "id2label": {"0": "a"}}',
)
RECIPES = (
    b"method: ties\nbase: b\nmodels: {a: {weight: 0.5, density: [0, 1]}, c: {}}\nparameters: {scale: 1}\nseed: 3\n",
    b'{"method": "mean", "base": "b", "models": ["a", "c"]}',
    b"merge_method: ties\nbase_model: b\nmodels:\n- {model: a, parameters: {weight: 0.5, density: 1}}\ndtype: float32",
)
WEIGHTS = (
    json.dumps({"models": {"a": {"weight": 0.7}, "b": {"weight": [0, 0.5, 1], "density": [{"value": 0.3}]}}}).encode(),
    json.dumps({"parameters": {"scale": {"x": 1, "*": 2}}}).encode(),
)
PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_PART = {"parts": [{"digest": DIGEST, "size_bytes": 5}]}
_ADMISSION = {"contribution": DIGEST, "contributor": "ada", "delta_digest": DIGEST, "num_examples": 5, "score": 0.5}
_MANIFEST = {
    "federation": DIGEST, "contributor": "ada", "round": 1, "base_release": 0, "base_digest": DIGEST, "encoding": "F32",
    "num_examples": 5, "num_steps": 2, "delta": _PART, "delta_digest": DIGEST, "display_name": "Ada",
    "score": {"before": 0.1, "after": 0.5}, "software": {"python": "3.11"},
}  # fmt: skip
_RELEASE = {
    "federation": DIGEST, "release": 1, "parent": 0, "round": 1, "method": "mean", "model_digest": DIGEST,
    "files": {"config.json": _PART, "model.safetensors": _PART}, "created_at_s": 1.0, "moved": 0.5,
    "contributions": [_ADMISSION | {"weight": 1.0}], "outer": {"age": 1, "files": {"momentum/m.safetensors": _PART}},
}  # fmt: skip
_TERMS = {"rules": {"quorum": 2, "deadline_s": 60.0}, "method": "mean"}
_CHANGE = {
    "number": 1, "changed_at_s": 1.0, "by": "ann", "after_release": 0, "old": {"quorum": 2}, "new": {"quorum": 3},
}  # fmt: skip
_ENTRIES = (
    {"event": "received", "contribution": DIGEST, "contributor": "ada", "received_at_s": 1.0},
    {"event": "opened", "base_release": 0, "base_digest": DIGEST, "opened_at_s": 1.0, "carried": [_ADMISSION],
     "terms": _TERMS},
    {"event": "admitted", "admissions": [_ADMISSION]},
    {"event": "rejected",
     "rejections": [{"contribution": DIGEST, "contributor": "eve", "reason": "no", "is_late": True}]},
    {"event": "closed", "contributions": [DIGEST], "reason": "quorum"},
    {"event": "fused", "manifest": DIGEST, "model_digest": DIGEST, "moved": 0.5},
    {"event": "published", "release": 1},
    {"event": "abandoned", "reason": "deadline"},
)  # fmt: skip
EVENTS = tuple(json.dumps(entry).encode() for entry in _ENTRIES)
VALUES: dict[str, tuple[type, tuple[Mapping[str, object], ...]]] = {
    "contribution manifest": (ContributionManifest, (_MANIFEST,)),
    "release manifest": (ReleaseManifest, (_RELEASE,)),
    "channel pointer": (Channel, ({"release": 1, "round": 1, "manifest": DIGEST, "model_digest": DIGEST},)),
    "lease": (LeaseRecord, ({"holder": "h:1:aa", "renewal": 3, "ttl_s": 10.0, "expires_at_s": 1.0},)),
    "journal head": (Head, tuple({"seq": 1, "entry": entry} for entry in _ENTRIES[1:])),
    "settings change": (SettingsChange, (_CHANGE,)),
}  # fmt: skip
