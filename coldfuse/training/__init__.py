"""Examples to a fine-tuned model.

job          what goes into a training run and what comes out of it
fine_tuning  the training loop; schedule: what happens at which step; checkpoint: a run on disk;
             stopping: before the first step
loading      a model's body and tokenizer from a folder; encoding: texts to features; compute: device and threads
intake       in which form a body takes texts, found out by trying; failures: what its own code raises, in words
check        whether a base can be trained, for who creates a federation of it
model, head  the body's names in the base's files; the private head, fitted as a linear probe
delta        what leaves the node
statistics   Fisher information and Gram matrices (estimators) and variance: what fusion methods may weigh by

Contributors and evaluators must mean the same thing by "the accuracy of a linear probe", so both take the body, the
pooling and the probe from here, and neither imports the other. The features of a text are the mean of the body's last
hidden states over its tokens. Mean pooling asks nothing of the architecture (no [CLS] token, no pooler that a base may
lack), so the same code serves every encoder, and models that read from left to right too, each of whose tokens knows
those before it. Every private head starts from the features that the probe measures.
"""
