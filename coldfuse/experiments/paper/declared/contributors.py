"""How many contribute in a round (figure 5)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="contributors",
    title="Contributors in a round",
    asks="Do more contributors in a round change where the base ends, or how steadily it gets there?",
    source="figure 5: the final level hardly changes; with more contributors the curve is steadier",
    variants=tuple(Variant(name=f"{num} contributors", contributors=Sampled(num=num)) for num in (2, 4, 8)),
    protocols=("frozen",),
    sizes=Sizes(rounds=6, score_every=2),
)
