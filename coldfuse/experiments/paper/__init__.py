"""The paper's experiments (arXiv 2212.01378, sections 4 and 5) in small, each a declaration over one runner.

values     what an experiment says: data sets, contributors, recipe, what is scored, and how large everything is
declared   the experiments, a file each
protocol   the paper's folds, sampling of contributors, and who trains on which examples: pure functions of the seed
models     the models that an experiment speaks of, as values: what each was made of, and a name that follows from that
plan       from an experiment to the scores that it asks for; from them follows everything else
making     a model's folder: a contributor's training as at a node, a fusion as in a round, multitask training
scoring    the paper's two scores, and few-shot: frozen (ColD-Frozen), fine-tuned (ColD)
runner     one after the other, with what is left of the time
results    scores to JSON lines, curves and a table; figure draws them, summary says what was run on what
pretrain   a base that has no tasks, of the same texts without labels (corpus, vocabulary)
about      what a result was measured with

A federation is played in this process, without a gateway: the node's own training makes deltas, the engine fuses them
into the next base's folder, state of outer steps included. A model's name is the digest of all that it is made of, so
that experiments share what they have in common, and a run that was killed goes on with what is there.
"""
