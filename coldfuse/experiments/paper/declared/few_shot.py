"""A hundred labels of each unseen data set (figure 4)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="few-shot",
    title="Few-shot on unseen data sets",
    asks="How much better is the base where somebody has a hundred labels of a data set that no contributor has?",
    source="figure 4: +6.73 points after 20 rounds with 100 labels",
    variants=(
        Variant(name="ColD Fusion", contributors=Sampled(num=8)),
        Variant(name="EMA of releases", contributors=Sampled(num=8), averaged=0.6),
        Variant(name="outer Nesterov", contributors=Sampled(num=8), recipe="mean then nesterov"),
    ),
    protocols=("few-shot",),
    baselines=("multitask",),
    groups=("unseen",),
    num_folds=3,
    has_fold_by_seed=True,
    sizes=Sizes(rounds=6, tune_every=3),
)
