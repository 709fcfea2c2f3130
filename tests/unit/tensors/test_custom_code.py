"""Code that a configuration names: found by its name and its imports, never run, and said where it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_folders import write_files, write_modules, write_pipeline
from tiny_rounds import make_model, write_model

from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.custom_code import CustomCode

MAP = {"AutoConfig": "configuration_x.Config", "AutoModel": "modeling_x.Model", "AutoTokenizer": ["tokens.Slow", None]}
CODE = {
    "configuration_x.py": "raise SystemExit('run')",
    "modeling_x.py": "from .configuration_x import Config\nimport os\nfrom . import layers\nfrom .ops.fast import f\n",
    "layers.py": "if True:\n    from .blocks import Block\n",
    "blocks/__init__.py": "from .one import *\n",
    "blocks/one.py": "",
    "ops/fast.py": "",
    "tokens.py": "from elsewhere import x\n",
    "train.py": "",
}


def code_of(folder: Path, **files: object) -> CustomCode:
    if not folder.exists():
        write_model(folder, make_model())
    return open_checkpoint(write_files(folder, files)).code


def test_what_is_named_and_what_that_imports_is_found(tmp_path: Path) -> None:
    code = code_of(tmp_path / "m", **{"config.json": {"auto_map": MAP}}, **CODE)
    assert code == CustomCode(found=tuple(sorted(CODE.keys() - {"train.py"})), named_by=("config.json",))


def test_code_is_no_part_of_the_model_unless_it_is_asked_for(tmp_path: Path) -> None:
    write_files(write_model(tmp_path / "m", make_model()), {"config.json": {"auto_map": MAP}, **CODE})
    model = open_checkpoint(tmp_path / "m")
    assert not any(name.endswith(".py") for name in model.plain)
    said = {item.why: item.names for item in model.left_out("base", how="ask")}
    why = "code that config.json names, so that the model does not load without; ask"
    assert said == {why: model.code.found, "code": ("train.py",), "not known to belong to a model": ("blocks/", "ops/")}
    with_code = model.with_code()
    assert with_code.plain == tuple(sorted(("config.json", *model.code.found)))
    assert "code" in [item.why for item in with_code.left_out("base", how="ask")]
    assert why not in [item.why for item in with_code.left_out("base", how="ask")]


def test_code_that_is_not_there_is_said(tmp_path: Path) -> None:
    code = code_of(tmp_path / "m", **{"config.json": {"auto_map": MAP}, "modeling_x.py": "from .gone import x"})
    assert code.missing == ("configuration_x.py", "gone.py", "tokens.py")
    assert code.found == ("modeling_x.py",)
    said = code.left_out("base", how="", is_copied=True)
    assert [(item.names, item.why) for item in said] == [(code.missing, "code that config.json names, and not there")]


def test_code_in_another_repository_is_named_by_it(tmp_path: Path) -> None:
    references = {"AutoModel": "someone/their-model--modeling_y.Model", "AutoConfig": "someone/their-model--c.Config"}
    code = code_of(tmp_path / "m", **{"tokenizer_config.json": {"auto_map": references}})
    assert code == CustomCode(elsewhere=("someone/their-model",), named_by=("tokenizer_config.json",))
    assert "in another repository of the hub" in code.left_out("base", how="")[0].why


def test_code_of_modules_and_pipelines_is_found(tmp_path: Path) -> None:
    modules = [{"path": "", "type": "custom_st.Body"}, {"path": "2_Dense", "type": "odd.Dense"},
               {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]  # fmt: skip
    files = {
        "modules.json": modules,
        "custom_st.py": "",
        "2_Dense/odd.py": "from .more import x",
        "2_Dense/more.py": "",
    }
    found = code_of(write_modules(tmp_path / "m"), **files)
    assert found == CustomCode(found=("2_Dense/more.py", "2_Dense/odd.py", "custom_st.py"), named_by=("modules.json",))
    components = {"_class_name": ["my_pipeline", "P"], "unet": ["my_unet", "U"], "text_encoder": ["transformers", "T"]}
    files = {"model_index.json": components, "my_pipeline.py": "", "unet/my_unet.py": ""}
    found = code_of(write_pipeline(tmp_path / "p"), **files)
    assert found == CustomCode(found=("my_pipeline.py", "unet/my_unet.py"), named_by=("model_index.json",))


@pytest.mark.parametrize("reference", ["../secret.M", "a/../../secret.M", "/etc/x.M", "a\\b.M", "", ".", "..", "M", 5])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, reference: object) -> None:
    (tmp_path / "secret.py").write_text("secret")
    assert code_of(tmp_path / "m", **{"config.json": {"auto_map": {"AutoModel": reference}}}) == CustomCode()


@pytest.mark.parametrize("config", ["{", "[]", '{"auto_map": []}', '{"auto_map": null}', '{"auto_map": {"a": {}}}'])
def test_a_configuration_that_is_none_names_no_code(tmp_path: Path, config: str) -> None:
    assert code_of(tmp_path / "m", **{"processor_config.json": config}) == CustomCode()


@pytest.mark.parametrize("code", ["this is no Python", "'\\d'", "\0", b"\xff\xfe", "(" * 500])
def test_code_that_cannot_be_parsed_is_still_code(tmp_path: Path, code: str | bytes) -> None:
    found = code_of(tmp_path / "m", **{"config.json": {"auto_map": {"AutoModel": "m.M"}}, "m.py": code})
    assert found.found == ("m.py",)


def test_code_outside_of_the_folder_is_neither_looked_for_nor_copied(tmp_path: Path) -> None:
    write_files(tmp_path / "x", {"mod.py": ""})
    folder = write_pipeline(tmp_path / "m")
    index = json.loads((folder / "model_index.json").read_text())
    write_files(folder, {"model_index.json": index | {"_a/../../x": ["mod", "C"]}, "_a/keep.txt": ""})
    model = open_checkpoint(folder).with_code()
    assert not [name for name in model.plain if name.endswith(".py")]
    assert model.code.missing == ("_a/../../x/mod.py",)
