"""Examples to a fine-tuned model: encoding, the training loop and its checkpoints, linear probes, statistics.

Contributors and evaluators must mean the same thing by "the accuracy of a linear probe", so both take the body, the
pooling and the probe from here, and neither imports the other. The features of a text are the mean of the body's last
hidden states over its tokens. Mean pooling asks nothing of the architecture (no [CLS] token, no pooler that a base may
lack), so the same code serves every encoder, and every private head starts from the features that the probe measures.
"""
