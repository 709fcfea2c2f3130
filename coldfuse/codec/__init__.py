"""Tensors and manifests to bytes and back.

- `manifests`: values to canonical JSON, whose SHA-256 names them, and back with bounds and clear errors;
- `header`: the safetensors header, parsed strictly and written canonically;
- `parts`: where a file is cut into parts, along its tensors;
- `blobs`: reading and writing a file that lies as parts in an object store;
- `model_folder`: a Hugging Face folder's tensors, sharded or not;
- `model_digest`: one name for a model's tensors, whatever the sharding;
- `deltas`: a contribution's safetensors file;
- `statistics`: what a contributor measured of its data beside it;
- `adapters`: what a PEFT adapter folder changes, and `recompress`: writing one.

Files are read by range and written as a stream; no function here holds a model. The codec does not import the store: it
is handed functions that read and write objects.
"""
