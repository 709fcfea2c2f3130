"""What `coldfuse fuse` adds to the engine: models, deltas and adapters from folders, stores and the hub.

`inputs` says which they are and where their tensors lie, `local` fuses them, `outputs` says what is written (a model, a
delta, an adapter). `passes`, `preview` and `explain` tell what a fusion will read and what came of it; `search` and its
neighbours choose a recipe's parameters on held-out data.
"""
