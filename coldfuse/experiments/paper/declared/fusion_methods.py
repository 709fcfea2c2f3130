"""Which settings of a federation keep raising unseen data sets (Bases that last)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

_FOUR = Sampled(num=4)

EXPERIMENT = Experiment(
    name="fusion-methods",
    title="Fusion methods and settings over rounds",
    asks="Which method, outer step, average, local objective or sampling keeps the base rising on unseen data?",
    source="section 7 leaves better fusing to others; EMA: arXiv 2412.06712; RegMean: 2212.09849",
    variants=(
        Variant(name="mean", contributors=_FOUR),
        Variant(name="EMA of releases is deployed", contributors=_FOUR, averaged=0.6),
        # Whoever starts from the average φ has φ' = k φ + (1 − k)(φ + mean δ) = φ + (1 − k) mean δ: a shorter step.
        Variant(
            name="EMA is started from: half a step",
            contributors=_FOUR,
            recipe="task-arithmetic(scale=0.5, normalize=true)",
        ),
        Variant(name="outer Nesterov", contributors=_FOUR, recipe="mean then nesterov"),
        Variant(name="RegMean", contributors=_FOUR, recipe="regmean"),
        Variant(name="WiSE-FT", contributors=_FOUR, objectives=("wise-ft",)),
        Variant(name="L2-SP", contributors=_FOUR, objectives=("l2-sp",)),
        Variant(name="balanced kinds of task", contributors=Sampled(num=4, is_balanced=True)),
        Variant(name="twice the contributors, half the steps", contributors=Sampled(num=8, share=0.5)),
        Variant(name="stopped by the gate", contributors=_FOUR, is_gated=True),
    ),
    protocols=("frozen", "few-shot"),
    groups=("seen", "unseen"),
    num_folds=3,
    has_fold_by_seed=True,
    sizes=Sizes(rounds=15, scoring=200, score_every=15, tune_every=15),
)
