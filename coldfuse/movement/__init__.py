"""How far one model lies from another, tensor by tensor, and whose contributions moved it there.

parts     files of a release that are read part by part, each verified before it is used
pairs     the tensors that two models have in common, and where they lie
deltas    what was contributed, as factors of the change that it became
measure   one pass over all of it, in runs of bounded size
found     what was found, by tensor, by layer and in all

A release is compared with its parent or any other one; so are two model folders, of which nobody knows who moved them.
What has the same parts in both is not read. Sums are made in float64, run by run, in the order of the first model's
files: the same numbers whatever the shards and wherever the models lie.
"""
