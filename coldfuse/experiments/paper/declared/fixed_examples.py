"""Contributors with few examples, the same in every round (figure 10)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="fixed-examples",
    title="The same examples in every round",
    asks="Does the base still rise where contributors have few examples, and the same ones in every round?",
    source="figure 10: 5,000 examples a contributor; a lower level, and both scores rise all the way",
    variants=(
        Variant(name="the same examples", contributors=Sampled(num=8, is_fixed=True)),
        Variant(name="all that there are", contributors=Sampled(num=8)),
    ),
    protocols=("frozen", "fine-tuned"),
    sizes=Sizes(rounds=6, tune_every=6),
)
