"""The names that a model's tensors have: in the files of several versions and libraries, in memory, and in adapters.

The same tensor is `bert.embeddings.LayerNorm.gamma` in an old file, `embeddings.LayerNorm.weight` in a body saved
without a head, and `vit.layers.0.attention.k_proj` in memory where the file says `vit.encoder.layer.0.attention.…`.
Coldfuse holds models against a base by what transformers itself would load into the same place:

- `prefixes`: what differs by a prefix alone, which needs no other library;
- `building`: a model class of transformers, built without memory from a configuration that anybody may have written;
- `architecture`: what that class calls its tensors, and its own mapping of stored names; `heads`: a task's head in it;
- `matching`: a model's names, or those of an adapter's modules, held against the base's.

A name that could mean two tensors is refused, never guessed.
"""
