"""Which settings of a federation keep raising unseen data sets (Bases that last)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="fusion-methods",
    title="Fusion methods and settings over rounds",
    asks="With which method, outer step, average or local objective does the base keep rising on unseen data sets?",
    source="section 7 leaves better fusing to others; EMA: arXiv 2412.06712; RegMean: 2212.09849; TSV-M: 2412.00081",
    variants=(
        Variant(name="mean", contributors=Sampled(num=8)),
        Variant(name="mean, EMA of releases", contributors=Sampled(num=8), averaged=0.6),
        Variant(name="half a step", contributors=Sampled(num=8), recipe="task-arithmetic(scale=0.5, normalize=true)"),
        Variant(name="momentum", contributors=Sampled(num=8), recipe="mean then momentum(lr=0.5, momentum=0.5)"),
        Variant(name="RegMean", contributors=Sampled(num=8), recipe="regmean"),
        Variant(name="TSV-M", contributors=Sampled(num=8), recipe="tsv-m"),
        Variant(name="TIES", contributors=Sampled(num=8), recipe="ties"),
        Variant(name="WiSE-FT", contributors=Sampled(num=8), objectives=("wise-ft",)),
        Variant(name="L2-SP", contributors=Sampled(num=8), objectives=("l2-sp",)),
    ),
    protocols=("frozen", "few-shot"),
    groups=("seen", "unseen"),
    num_folds=3,
    has_fold_by_seed=True,
    sizes=Sizes(rounds=4, examples=160, score_every=4, tune_every=4),
)
