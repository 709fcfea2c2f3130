"""How much each contributor has (figure 6b)."""

from coldfuse.experiments.paper.values import Dealt, Experiment, Sizes, Variant

EXPERIMENT = Experiment(
    name="data-per-contributor",
    title="Examples of a contributor",
    asks="Do contributors with more examples each come closer to training on all of them together?",
    source="figure 6b: 10 contributors of 1.25K, 2.5K, 5K and 10K examples; more is closer to training on the union",
    variants=tuple(
        Variant(name=f"1/{part} of the examples", contributors=Dealt(num=10, share=1 / part)) for part in (8, 4, 2, 1)
    ),
    protocols=("frozen",),
    baselines=("multitask",),
    num_sets=1,
    sizes=Sizes(rounds=6, examples=480, scoring=1000, test=1000),
)
