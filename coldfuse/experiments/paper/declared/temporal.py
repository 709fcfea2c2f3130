"""Data sets that arrive one after the other and do not come back."""

from coldfuse.experiments.paper.values import Arriving, Experiment, Sizes, Variant

EXPERIMENT = Experiment(
    name="temporal",
    title="Data sets that arrive over time",
    asks="How should the base be kept where contributors come once, and others after them?",
    source="not in the paper; arXiv 2412.06712: what one starts from and deploys matters more than the rule",
    variants=(
        Variant(name="from the latest release", contributors=Arriving(num=2)),
        Variant(name="EMA of releases deployed", contributors=Arriving(num=2), averaged=0.6),
        Variant(name="half a step", contributors=Arriving(num=2), recipe="task-arithmetic(scale=0.5, normalize=true)"),
    ),
    protocols=("frozen",),
    sizes=Sizes(rounds=6, score_every=2),
)
