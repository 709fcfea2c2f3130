"""What `coldfuse.fuse` returns."""

from __future__ import annotations

from pathlib import Path

from model_folders import write_files
from tiny_rounds import make_model, write_model

import coldfuse


def test_a_fused_model_says_what_is_left_out(tmp_path: Path) -> None:
    code = {"config.json": {"auto_map": {"AutoModel": "modeling_x.X"}}, "modeling_x.py": "", "README.md": "x"}
    base = write_files(write_model(tmp_path / "base", make_model()), code)
    made = coldfuse.fuse(base, [base], out=tmp_path / "out")
    assert [item.names for item in made.left_out] == [("README.md",), ("modeling_x.py",)]
    assert f"\nleft out of {base}: README.md (documents); modeling_x.py (code that config.json names" in repr(made)
    whole = coldfuse.fuse(base, [base], out=tmp_path / "whole", with_code=True)
    assert [item.names for item in whole.left_out] == [("README.md",)]
    assert (tmp_path / "whole" / "modeling_x.py").is_file()
