"""One data set, new examples in every round: federated learning (figure 6a)."""

from coldfuse.experiments.paper.values import Dealt, Experiment, Sizes, Variant

EXPERIMENT = Experiment(
    name="single-dataset",
    title="One data set, new examples in each round",
    asks="Does the base get better where all contributors have the same task, and new examples in every round?",
    source="figure 6a: MNLI, 5 contributors with 5,000 new examples a round; rises, frozen above fine-tuned",
    variants=(Variant(name="5 contributors", contributors=Dealt(num=5, is_new=True)),),
    protocols=("frozen", "fine-tuned"),
    num_sets=1,
    sizes=Sizes(rounds=10, examples=100, scoring=500, test=1000, score_every=2, tune_every=5),
)
