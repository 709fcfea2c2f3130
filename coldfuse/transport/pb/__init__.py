"""Generated from `protos/` by `python protos/generate.py`; not edited."""
