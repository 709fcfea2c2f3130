"""Data sets of the Hub, from a server on this machine that answers as the Hub does."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from hub_server import hub_of
from pyarrow import parquet

ASK = """
import json, sys
from coldfuse.data.records import Role, read_records
from coldfuse.errors import UserInputError
roles = [Role("text", ("text",)), Role("label", ("label",), is_required=False)]
for address, limit in json.loads(sys.argv[1]):
    try:
        found = read_records(address, roles, limit=limit)
        print(json.dumps([len(found), dict(found.rows[0]), found.report.form, dict(found.class_names)]))
    except UserInputError as error:
        print(json.dumps(str(error)))
"""
FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    for split in ("train", "test"):
        path = folder / "org" / "name" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = pa.table({"text": [f"{split} {n}" for n in range(50)], "label": [n % 2 for n in range(50)]})
        noted = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
        parquet.write_table(rows.replace_schema_metadata(noted), path)
    odd = folder / "org" / "odd"
    odd.mkdir()
    (odd / "odd.py").write_text("raise SystemExit('code was run')")
    (odd / "data.pkl").write_bytes(b"\x80\x04N.")
    broken = folder / "org" / "broken"
    broken.mkdir()
    (broken / "train.jsonl").write_text('{"text": "CANARY"}\n{"text": {"CANARY": 1}}\n{"text": "CANARY\n')
    evil = folder / "org" / "evil"
    evil.mkdir()
    (folder / "secret.txt").write_text("CANARY\n")
    (evil / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {folder}/secret.txt\n---\n")
    return folder


def ask(hub, home, questions):
    with hub_of(hub) as (served, asked):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")},
            "HF_ENDPOINT": served,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            check=False,
            args=[sys.executable, "-c", ASK, json.dumps(questions)],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], asked, done.stderr


def test_a_data_set_is_downloaded_or_streamed_and_a_split_is_named(hub, tmp_path):
    questions = [
        ("hf://org/name:test", None), ("hf://org/name:train", 3), ("hf://org/name", None),
        ("hf://org/none:train", None), ("hf://org/odd:train", None), ("hf://org/broken:train", 5),
        ("hf://org/evil:train", None),
    ]  # fmt: skip
    answers, asked, said = ask(hub, tmp_path, questions)
    names = {"label": ["no", "yes"]}
    assert answers[:2] == [
        [50, {"text": "test 0", "label": 0}, [], names],
        [3, {"text": "train 0", "label": 0}, ["streamed"], names],
    ]
    says = ["has several splits; name one of t", "there is no such data set", "", "", "files don't belong to org/evil"]
    for answer, words in zip(answers[2:], says, strict=True):
        assert isinstance(answer, str), answer
        assert words in answer
        assert len(answer.splitlines()) == 1
    assert "CANARY" not in json.dumps(answers) + said
    assert "code was run" not in json.dumps(answers) + said
    assert not [request for request in asked if request.startswith("GET") and request.endswith(".pkl")]
