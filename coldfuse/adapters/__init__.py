"""PEFT adapters in and out, as deltas of the base.

- `config`: the settings of an adapter that count, and those that are refused; `patterns`: expressions among them;
- `names`: an adapter's tensors sorted by what they are, and the base's names for them;
- `types`: PEFT's types of adapter, and which are read here, computed by PEFT or refused;
- `kinds`: from a module's factors to the changes of its weight and bias, for each type that is read here;
- `changes`: the arithmetic of each change, row by row; `experts`: of all experts of a layer in one tensor,
  `apart`: which a base may store in parts;
- `expansion`: what PEFT is to compute, and the file of deltas that it will lie in; `expanding`: has it computed, on
  models that `skeleton` makes, from settings that `peft_config` lets through; `peculiar`: what two types need;
- `adapter`: a whole adapter folder, checked against a base by `holding`; `heads`: heads that a base ties;
- `recompress`: the way back, from a fused delta to low-rank factors; `layout`: which layers may have some, `writing`:
  a folder of them, `applied`: what PEFT makes of that folder;
- `refactored`: modules of low rank that a federation shares, fused as products; `module_names`: their tensors in a
  contributor's model; `loading`: a release's module in a body.
"""
