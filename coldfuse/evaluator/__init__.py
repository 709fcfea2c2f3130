"""An evaluator: a member with private examples, who says of every candidate how many of them only it gets right.

node      waits for candidates, scores each beside its base, signs the counts, and hands them in
bringing  a candidate's files, and its base's, verified as they arrive
folder    what was said before: the same candidate is never answered twice, or with other noise

Examples and answers to them never leave; two counts a suite do.
"""
