"""The main experiment: the base gets better over the rounds (figure 2)."""

from coldfuse.experiments.paper.values import Experiment, Sampled, Sizes, Variant

EXPERIMENT = Experiment(
    name="main",
    title="ColD Fusion over rounds",
    asks="Does the shared base get better over the rounds, and beyond multitask training?",
    source="figures 2a, 2b: +2.33 points over the pretrained model when fine-tuned, multitask +1.62, one-shot +0.92",
    variants=(
        Variant(name="ColD Fusion", contributors=Sampled(num=8)),
        Variant(name="EMA of releases", contributors=Sampled(num=8), averaged=0.6),
        Variant(name="outer Nesterov", contributors=Sampled(num=8), recipe="mean then nesterov"),
    ),
    protocols=("frozen", "fine-tuned"),
    baselines=("one-shot", "multitask"),
    sizes=Sizes(rounds=6, score_every=2, tune_every=6),
)
