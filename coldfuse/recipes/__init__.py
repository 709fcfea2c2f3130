"""Recipes and weights as people write them down, in YAML or JSON: coldfuse's own files, and mergekit's.

- `documents`: a file as plain values, bounded and without YAML's surprises;
- `weights_file`: numbers that differ from model to model and from tensor to tensor;
- `recipe_file`: a whole recipe, as coldfuse runs it; `reading`: from a file to that;
- `mergekit`, with its methods and slices: the part of mergekit's files that coldfuse computes to the same numbers. What
  it does not is refused by its name.
"""
