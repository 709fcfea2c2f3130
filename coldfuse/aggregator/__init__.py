"""A round: list, screen, decide, fuse part by part, publish.

`round` is the whole of it, in one function that does the next thing the journal asks for; killed anywhere, it goes on
there. Fusing, for a round (`release`) and for `coldfuse fuse` (`local`) alike: `plan` says which bytes each part of the
fused model is made from, as data; `measure` makes the passes that a recipe needs first; `fuse` makes the parts, from
blocks that `reading` reads; `execution` runs such tasks, on threads or on Ray, with the same bytes. Tasks are plain
functions that are handed keys and ranges, never tensors, and write what they made under its digest: a task that runs
twice changes nothing.
"""
