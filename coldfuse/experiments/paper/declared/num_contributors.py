"""How many contributors there are, each with examples of its own (figure 6c)."""

from coldfuse.experiments.paper.values import Dealt, Experiment, Sizes, Variant

EXPERIMENT = Experiment(
    name="num-contributors",
    title="Contributors, each with its own examples",
    asks="What does each further contributor with the same number of examples add?",
    source="figure 6c: 2, 5, 10 and 20 contributors of 5K examples each; more are better, and for longer",
    variants=tuple(Variant(name=f"{num} contributors", contributors=Dealt(num=num)) for num in (2, 5, 10, 20)),
    protocols=("frozen",),
    num_sets=1,
    sizes=Sizes(rounds=6, examples=200, scoring=1000, test=1000),
)
