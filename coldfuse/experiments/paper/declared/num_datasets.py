"""How many data sets take part (figure 9)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="num-datasets",
    title="Data sets that take part",
    asks="Is the base better the more data sets take part?",
    source="figure 9: the first 4, 8, 16 and 36; 16 and 36 are far better than 4 and 8, 8 slightly worse than 4",
    variants=(
        *(Variant(name=f"{num} data sets", contributors=Sampled(num=8), num_sets=num) for num in (4, 8, 16)),
        Variant(name="all data sets", contributors=Sampled(num=8)),
    ),
    protocols=("frozen",),
    num_sets=None,
    sizes=Sizes(rounds=6, examples=200, score_every=2, seeds=(0, 1)),
)
