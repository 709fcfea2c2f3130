"""Fusing in bounded memory, for a round and for `coldfuse fuse` alike.

The one way is `fuse`: a `Request` names a base, inputs, a recipe, a state and an output; `prepare` plans it, and `fuse`
runs it and hands every part to a sink. In the order of the data:

- `recipes`: the methods that are known, coldfuse's own and those of plug-ins; `job`: what all tasks of a fusion share;
- `inputs`: models, deltas and adapters, opened and checked; `mismatches`: whether a model fits the base;
  `expansions`: adapters that PEFT expands first; `left_out`: what of an input, or beside a base, no result can have;
  `tied`: weights that a base stores twice, `untied`: a base that is made to; `settings`: numbers by model and tensor;
  `state`: the outer steps' numbers and the residual, kept between fusions;
- `plan`: which bytes each part is made from, as data; `passes`: the passes over the inputs, as data;
- `measuring` runs the passes that come before the last one, whose tasks are in `measure`;
- `shard` makes the parts of the last pass, from the blocks that `reading` yields; `ranges`: how a piece is cut into
  blocks; `range_reader` and `bulk_read`: bytes of files, read ahead or at once; `finite`: NaN is refused as it is read;
  `devices`: numpy here, or torch on a GPU; `preload`: numba is loaded meanwhile;
- `sinks`: where the parts go, a store's objects or a folder's files; `outputs`: a model, a delta or an adapter;
- `execution`: tasks on threads or on Ray, with the same bytes; `ray_cluster`: started or joined, and watched;
  `ray_starting`: tried again where a machine is busy;
  `ray_frontier`: who else may run code there;
- `folder_fusion`: all of it for `coldfuse fuse`; `staging`: a result appears when it is whole;
  `preview`: what a fusion would do; `explain`: how much of each input is in what was made.

Tasks are plain functions that are handed names and ranges of bytes, never tensors, and write what they made at its own
place or under its digest: a task that runs twice changes nothing.
"""
