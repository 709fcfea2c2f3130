"""How good a base is: scores that a release is judged by, on data that the evaluator holds.

The linear probe is the paper's ColD-Frozen (arXiv 2212.01378, section 4): only a new classifier is trained and the body
stays as it is, so the score is of the body alone. It takes seconds where fine-tuning takes minutes.
"""
