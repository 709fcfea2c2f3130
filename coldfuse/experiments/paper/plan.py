"""From an experiment to the scores that it asks for: everything that is made is made for one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.errors import UserInputError
from coldfuse.experiments.paper.models import Averaged, Fused, Gated, Model, Pooled, Pretrained, Training, Tuned
from coldfuse.experiments.paper.protocol import Fold, Schedule, Share, folds, held_out, schedule, scored_rounds
from coldfuse.experiments.paper.values import Baseline, Experiment, Group, Protocol, Sampled, Sizes, Variant
from coldfuse.training.settings import lines_of_objectives


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A score that an experiment asks for, and where it stands in the figure."""

    variant: str
    """Curve that it belongs to, or the baseline's name."""
    fold: int
    seed: int
    round: int
    protocol: Protocol
    group: Group
    set: str
    model: Model


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an experiment is run on."""

    experiment: Experiment
    sizes: Sizes
    start: Pretrained
    lengths: Mapping[str, int]
    """Number of training examples of each data set."""
    digests: Mapping[str, str]
    """Digest of each data set."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Kind of task of each data set, where it is known."""
    unseen: Sequence[str] = ()
    """Data sets that the user names as unseen; none: folds."""

    @property
    def folds(self) -> list[Fold]:
        """Which data sets are seen."""
        if not self.unseen:
            return folds(list(self.lengths), self.experiment.num_folds)
        if missing := set(self.unseen) - set(self.lengths):
            raise UserInputError(f"--unseen {min(missing)}: it is none of the experiment's data sets; add it to --sets")
        return [held_out(list(self.lengths), self.unseen)]


def plan(setting: Setting) -> list[Wanted]:
    """Return all scores that are wanted, in the order in which they are made: seed by seed, curve by curve.

    Raises `UserInputError` where the data sets are too few or too small for the experiment.
    """
    folds, found = setting.folds, list[Wanted]()
    for place, seed in enumerate(setting.sizes.seeds):
        mine = [place % len(folds)] if setting.experiment.has_fold_by_seed else range(len(folds))
        for number in mine:
            found += _of_a_fold(setting, seed, number, folds[number])
    return found


def _of_a_fold(setting: Setting, seed: int, number: int, fold: Fold) -> Iterator[Wanted]:
    sizes, experiment = setting.sizes, setting.experiment
    for name, models in _lines(setting, fold, seed):
        for protocol in experiment.protocols:
            at = [0] if len(models) == 1 else scored_rounds(len(models) - 1, every(sizes, protocol))
            for number_of_round in at:
                for group, of in _scored_sets(experiment, protocol, fold):
                    yield Wanted(
                        variant=name, fold=number, seed=seed, round=number_of_round, protocol=protocol, group=group,
                        set=of, model=models[number_of_round],
                    )  # fmt: skip


def _lines(setting: Setting, fold: Fold, seed: int) -> Iterator[tuple[str, list[Model]]]:
    """Yield what each curve and baseline scores."""
    for variant in setting.experiment.variants:
        if variant.num_sets is None or variant.num_sets <= len(fold.seen):  # else there are not so many
            yield variant.name, releases(setting, variant, fold.seen[: variant.num_sets], seed)
    for baseline in setting.experiment.baselines:
        yield baseline, [_baseline(setting, baseline, fold, seed)]


def _scored_sets(experiment: Experiment, protocol: Protocol, fold: Fold) -> Iterator[tuple[Group, str]]:
    for group in experiment.groups:
        names = fold.seen if group == "seen" else fold.unseen
        if not (protocol == "few-shot" and group == "seen" and fold.unseen):  # of what has all labels
            yield from ((group, name) for name in names)


def every(sizes: Sizes, protocol: Protocol) -> int:
    """Return the rounds from one score to the next."""
    return sizes.score_every if protocol == "frozen" else sizes.tune_every


def releases(setting: Setting, variant: Variant, sets: Sequence[str], seed: int) -> list[Model]:
    """Return what is scored of a federation after each round, from the start on: its releases, or their average."""
    sizes, recipe = setting.sizes, read_recipe(variant.recipe)
    how = Schedule(rounds=sizes.rounds, examples=sizes.examples, seed=seed, kinds=setting.kinds)
    lengths = {name: setting.lengths[name] for name in sets}
    base: Model = setting.start
    models: list[Model] = [base]
    for number, shares in enumerate(schedule(variant.contributors, sets, how, lengths=lengths), start=1):
        training = Training(
            epochs=variant.epochs or sizes.epochs, objectives=lines_of_objectives(variant.objectives), seed=seed,
            round=number,
        )  # fmt: skip
        hostile = variant.hostile
        tuned = tuple(
            Tuned(
                start=base, share=share, data=setting.digests[share.set], training=training, statistic=recipe.statistic,
                attack=hostile.attack if hostile and place < hostile.num else None,
            )
            for place, share in enumerate(shares)
        )  # fmt: skip
        candidate = Fused(start=base, tuned=tuned, recipe=write_recipe(recipe))
        base = _gated(setting, sets, base, candidate) if variant.is_gated else candidate
        models.append(base)
    return models if variant.averaged is None else _averages(models, variant.averaged)


def _gated(setting: Setting, sets: Sequence[str], before: Model, candidate: Model) -> Gated:
    shares = tuple(Share(set=s, first=0, count=min(setting.sizes.scoring, setting.lengths[s])) for s in sorted(sets))
    data = tuple(setting.digests[share.set] for share in shares)
    return Gated(before=before, candidate=candidate, shares=shares, data=data)


def _averages(models: Sequence[Model], keep: float) -> list[Model]:
    averages = [models[0]]
    for model in models[1:]:
        averages.append(Averaged(before=averages[-1], latest=model, keep=keep))
    return averages


def _baseline(setting: Setting, baseline: Baseline, fold: Fold, seed: int) -> Model:
    """Return the model of a baseline, which has seen as many examples as a federation's contributors together."""
    sizes, first = setting.sizes, setting.experiment.variants[0]
    lengths = {name: setting.lengths[name] for name in fold.seen}
    if baseline == "one-shot":
        how = Schedule(rounds=1, examples=sizes.examples, seed=seed)
        [shares] = schedule(Sampled(num=len(fold.seen)), fold.seen, how, lengths=lengths)
        training = Training(epochs=sizes.epochs, seed=seed, round=1)
        tuned = tuple(
            Tuned(start=setting.start, share=share, data=setting.digests[share.set], training=training)
            for share in shares
        )
        return Fused(start=setting.start, tuned=tuned, recipe=write_recipe(read_recipe("mean")))
    if isinstance(first.contributors, Sampled):
        times = max(1, round(sizes.rounds * min(first.contributors.num, len(fold.seen)) / len(fold.seen)))
        shares = [Share(set=s, first=0, count=min(sizes.examples * times, lengths[s])) for s in fold.seen]
        training = Training(epochs=sizes.epochs, seed=seed, round=1)
    else:
        shares = _union(setting, fold, lengths, seed)
        training = Training(epochs=sizes.epochs * sizes.rounds, seed=seed, round=1)
    data = tuple(setting.digests[share.set] for share in shares)
    return Pooled(start=setting.start, shares=tuple(shares), data=data, training=training)


def _union(setting: Setting, fold: Fold, lengths: dict[str, int], seed: int) -> list[Share]:
    """Return all that the contributors of a data set have, in the variant in which they have most."""
    how = Schedule(rounds=1, examples=setting.sizes.examples, seed=seed)
    every = [schedule(v.contributors, fold.seen, how, lengths=lengths)[0] for v in setting.experiment.variants]
    most = max(every, key=lambda shares: sum(share.count for share in shares))
    return [Share(set=most[0].set, first=0, count=sum(share.count for share in most))]
