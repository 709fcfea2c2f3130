"""How good a base is: scores that a release is judged by, on data that the evaluator holds.

The linear probe is the paper's ColD-Frozen (arXiv 2212.01378, section 4): only a new classifier is trained and the body
stays as it is, so the score is of the body alone. It takes seconds where fine-tuning takes minutes.

    suites        what is trained on and what is tested on: files, pairs of sources, slices of time, the harness's tasks
    protocols     what is made of a model before it is scored: a probe, fine-tuned, nothing; with few labels
    outcomes      the task's metric, and a score of every example
    features      what frozen bodies make of texts, kept on the disk
    trials        models × data × protocols × seeds: run anywhere, kept, found again after a kill
    significance  who is better on the same examples, and when there are not enough of them to say
    report        all of it as one value (`values`), as a table or a picture

Only `significance` and `values` can be imported without torch.
"""
