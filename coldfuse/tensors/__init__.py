"""Files of tensors, wherever they lie: headers, parts, ranges, digests, deltas and statistics.

Where a model's bytes lie, from a file to the numbers in it:

- `files`: a file on this machine, as an object, or as parts in a store (`stores`), and ranges of it; `tensor_file`: a
  safetensors file;
- `folders`: a folder of files, likewise; `model_folder`: what in it is a model, and what is not; `index`: which of a
  folder's files hold its weights; `custom_code`: the code that its configuration names;
- `checkpoint`: the files of a model: a folder's, or a release's;
- `tensor_reader`: elements of tensors by their names;
- `dequantised`: a model in FP8 as one of floats, made as it is read (`float8`, `float8_grid`, `composed`, `edited`);
  `quantised`: by what others are quantised, in words; `shapes`: how two shapes differ, in words.

What a file is made of:

- `header`: the safetensors header, parsed strictly and written canonically;
- `parts`: where a file is cut into parts, along its tensors;
- `blobs`: reading and writing a file that lies as parts.

What contributors send, and the names of contents:

- `deltas`: the change of a model, as a safetensors file; `statistics`: what was measured of the data beside it;
- `model_digest`: one name for a model's tensors, whatever the sharding; `contents`: that and other names, of files.

Files are read by range and written as a stream; no function here holds a model.
"""
