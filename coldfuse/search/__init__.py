"""Choosing a recipe's parameters or its models on held-out data.

`methods` has the searches as steps of a recipe. `scored` fuses and scores candidates (greedy soups, grids); `learned`
descends gradients (`soup`, `adamerging`, over `resident` models). Both go through `trials`, the only module that fuses,
and end with a request that `coldfuse fuse` runs as any other.
"""
