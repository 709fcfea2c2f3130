"""The experiments, a file each; a new one is one file and one line here."""

from coldfuse.experiments.paper.declared import (
    contributors,
    data_per_contributor,
    few_shot,
    fixed_examples,
    fusion_methods,
    main,
    num_contributors,
    num_datasets,
    robustness,
    single_dataset,
    split,
    temporal,
    unseen,
)
from coldfuse.experiments.paper.values import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        main,
        unseen,
        few_shot,
        contributors,
        single_dataset,
        data_per_contributor,
        num_contributors,
        split,
        num_datasets,
        fixed_examples,
        fusion_methods,
        robustness,
        temporal,
    )
}
"""Experiments by the name of the command, in the order of the paper."""
