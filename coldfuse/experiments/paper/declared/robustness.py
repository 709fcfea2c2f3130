"""Contributors that send something else than what they learnt."""

from coldfuse.experiments.paper.values import Experiment, Hostile, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="robustness",
    title="Two hostile contributors of eight",
    asks="Which methods keep the base where some contributors send something else than what they learnt?",
    source="section 7 leaves malicious and erroneous models to a platform; no figure",
    variants=(
        Variant(name="mean, all honest", contributors=Sampled(num=8)),
        *(
            Variant(
                name=f"{method}, {attack}",
                contributors=Sampled(num=8),
                recipe=recipe,
                hostile=Hostile(attack=attack, num=2),
            )
            for attack in ("labels", "flip10")
            for method, recipe in (
                ("mean", "mean"),
                ("median", "median"),
                ("clip", "clip then mean"),
                ("geometric median", "geometric-median"),
            )
        ),
    ),
    protocols=("frozen",),
    sizes=Sizes(rounds=4, examples=200, score_every=4, seeds=(0, 1)),
)
