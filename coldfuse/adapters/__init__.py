"""PEFT adapters in and out, as deltas of the base.

- `config`: the settings of an adapter that count, and those that are refused;
- `names`: an adapter's tensors sorted by what they are, and the base's names for them;
- `kinds`: from a module's factors to the changes of its weight and bias, for each type of adapter;
- `changes`: the arithmetic of each change, row by row;
- `adapter`: a whole adapter folder, checked against a base;
- `recompress`: the way back, from a fused delta to a folder of low-rank factors.
"""
