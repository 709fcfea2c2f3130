"""A round: list, screen, decide, fuse part by part, publish.

`round` is the whole of it, in one function that does the next thing the journal asks for; killed anywhere, it goes on
there. `release` has a round's contributions fused by the `engine`; `folders` has models in folders fused by it, without
a federation.
"""
