from __future__ import annotations

import importlib.metadata

import pytest
from pydantic import TypeAdapter

from coldfuse.contributor import manifest
from coldfuse.contributor.manifest import default_name, software
from coldfuse.core.value import Name


def test_a_node_without_a_name_has_the_same_one_at_every_start_and_does_not_tell_its_file() -> None:
    name = default_name("/data/secret-patients.csv")
    assert name == default_name("/data/secret-patients.csv") != default_name("/data/other.csv")
    assert TypeAdapter(Name).validate_python(name).startswith("node-")
    assert "patients" not in name


def test_software_that_is_not_installed_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software()["torch"] == importlib.metadata.version("torch")

    def version(name: str) -> str:
        if name != "torch":
            return "1"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(manifest, "version", version)
    assert software().keys() == {"python", "coldfuse", "transformers"}
