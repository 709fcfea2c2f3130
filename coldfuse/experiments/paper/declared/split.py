"""A fixed number of examples, dealt out to more and more contributors (figure 6d)."""

from coldfuse.experiments.paper.values import Dealt, Experiment, Sizes, Variant

EXPERIMENT = Experiment(
    name="split",
    title="A fixed number of examples, dealt out",
    asks="What is lost where the same examples lie with more contributors?",
    source="figure 6d: 50K examples; the final level hardly changes, each doubling takes about 2 more rounds",
    variants=tuple(
        Variant(name=f"{num} contributors", contributors=Dealt(num=num, share=1 / num)) for num in (1, 2, 5, 10, 20)
    ),
    protocols=("frozen",),
    num_sets=1,
    sizes=Sizes(rounds=6, examples=2000, scoring=1000, test=1000),
)
