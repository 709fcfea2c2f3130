"""Files of tensors, wherever they lie: headers, parts, ranges, digests, deltas and statistics.

- `header`: the safetensors header, parsed strictly and written canonically;
- `parts`: where a file is cut into parts, along its tensors;
- `blobs`: reading and writing a file that lies as parts in an object store;
- `files`: a file wherever it lies, `folders`: a folder of them, `checkpoint`: the files of a model;
- `tensor_reader`: elements of tensors by name; `contents`: names for what files hold;
- `model_digest`: one name for a model's tensors, whatever the sharding;
- `deltas`: a contribution's safetensors file;
- `statistics`: what a contributor measured of its data beside it.

Files are read by range and written as a stream; no function here holds a model.
"""
