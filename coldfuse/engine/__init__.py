"""Fusing in bounded memory, for a round and for `coldfuse fuse` alike.

`plan` says which bytes each part of the fused model is made from, as data; `measure` makes the passes that a recipe
needs first; `fuse` makes the parts, from blocks that `reading` reads; `execution` runs such tasks, on threads or Ray,
with the same bytes. Tasks are plain functions that are handed keys and ranges, never tensors, and write what they made
under its digest: a task that runs twice changes nothing.
"""
