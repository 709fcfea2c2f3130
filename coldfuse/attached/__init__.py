"""A model and a Trainer of the user's own, as the API's `attach` and `Federation.round` meet them.

own         the tensors of a model in memory, whatever is wrapped around it, by their plain names
plan        which of them are shared, by the base's names, and which are private
access      one tensor whole, wherever it lies: plain, sharded by FSDP, or partitioned by ZeRO-3
setting     a release and what is private into a model, and out of it again
adapters    PEFT's adapters: refused or reset
ranks       the first process speaks, the others wait and are told
trainer     what a round asks of a Trainer: fresh, resumed, scored

Nothing here knows a federation: `api` puts it together with a node's folder and its sending.
"""
