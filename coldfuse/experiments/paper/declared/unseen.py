"""Data sets that nobody contributes: three folds (figure 3)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="unseen",
    title="Seen and unseen data sets",
    asks="Do data sets gain that no contributor has?",
    source="figure 3: fine-tuned, unseen sets gain as much as seen ones; frozen, seen ones lie far above, both rise",
    variants=(
        Variant(name="ColD Fusion", contributors=Sampled(num=8)),
        Variant(name="outer Nesterov", contributors=Sampled(num=8), recipe="mean then nesterov"),
    ),
    baselines=("multitask",),
    protocols=("frozen", "fine-tuned"),
    groups=("seen", "unseen"),
    num_folds=3,
    has_fold_by_seed=True,
    sizes=Sizes(rounds=6, score_every=2, tune_every=6),
)
