"""The table of fusion methods: every name that a recipe may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from coldfuse.fusion.method import Method

Place = str | type[Method]
"""A method's class, or where to import it from: "module:Class" in this package."""


class Methods(Mapping[str, type[Method]]):
    """Fusion methods by name. One is imported when it is looked up: all together take longer than a small fusion."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        """Take where each method is, or the class itself."""
        self._places = dict(places)

    def __getitem__(self, name: str) -> type[Method]:
        """Return a method's class."""
        place = self._places[name]
        if not isinstance(place, str):
            return place
        module, _, kind = place.partition(":")
        found: type[Method] = getattr(import_module(f"coldfuse.fusion.{module}"), kind)
        self._places[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        """Yield all names."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def __or__(self, more: Mapping[str, Place]) -> Methods:
        """Return a table that has more methods, too."""
        return Methods({**self._places, **more})

    def name_of(self, kind: type[Method]) -> str:
        """Return a class's name in the table, or else its name in Python."""
        place = f"{kind.__module__.removeprefix('coldfuse.fusion.')}:{kind.__qualname__}"
        return next((name for name, found in self._places.items() if found in (kind, place)), kind.__name__)


METHODS = Methods(
    {
        # averages
        "mean": "average.mean:Mean",
        "weighted-mean": "average.mean:WeightedMean",
        "uniform-soup": "average.soups:UniformSoup",
        "ratatouille": "average.soups:Ratatouille",
        "task-arithmetic": "average.task_arithmetic:TaskArithmetic",
        "negate": "average.task_arithmetic:Negate",
        "analogy": "average.task_arithmetic:Analogy",
        "interpolate": "average.interpolate:Interpolate",
        "extrapolate": "average.interpolate:Extrapolate",
        # sparse
        "ties": "sparse.ties:Ties",
        "trim": "sparse.trim:Trim",
        "dare": "sparse.dare:Dare",
        "della": "sparse.della:Della",
        "breadcrumbs": "sparse.breadcrumbs:Breadcrumbs",
        "consensus": "sparse.consensus:Consensus",
        "pcb": "sparse.pcb:Pcb",
        "magmax": "sparse.magmax:Magmax",
        "sce": "sparse.sce:Sce",
        "ram": "sparse.ram:Ram",
        "ram-plus": "sparse.ram:RamPlus",
        # spherical
        "slerp": "spherical.slerp:Slerp",
        "nuslerp": "spherical.nuslerp:Nuslerp",
        "nuslerp-rows": "spherical.nuslerp:NuslerpRows",
        "multi-slerp": "spherical.multi_slerp:MultiSlerp",
        "karcher": "spherical.karcher:Karcher",
        "model-stock": "spherical.model_stock:ModelStock",
        "nearswap": "spherical.nearswap:Nearswap",
        # matrix
        "iso-c": "matrix.iso_c:IsoC",
        "iso-cts": "matrix.iso_cts:IsoCTS",
        "tsv-m": "matrix.tsv_m:TSVM",
        "knots": "matrix.knots:Knots",
        "wudi": "matrix.wudi:Wudi",
        "wudi-adam": "matrix.wudi:WudiAdam",
        "opcm": "matrix.opcm:OPCM",
        "low-rank": "matrix.compress:LowRank",
        "fwsvd": "matrix.fwsvd:FWSVD",
        # robust
        "clip": "robust.clip:Clip",
        "median": "robust.median:Median",
        "trimmed-mean": "robust.trimmed_mean:TrimmedMean",
        "geometric-median": "robust.geometric_median:GeometricMedian",
        "krum": "robust.krum:Krum",
        "multi-krum": "robust.krum:MultiKrum",
        "bulyan": "robust.bulyan:Bulyan",
        "centred-clip": "robust.centred_clip:CentredClip",
        "foolsgold": "robust.foolsgold:FoolsGold",
        # informed by statistics
        "regmean": "informed.regmean:RegMean",
        "fisher": "informed.fisher:Fisher",
        "precision": "informed.precision:Precision",
        # outer
        "momentum": "outer.momentum:Momentum",
        "nesterov": "outer.nesterov:Nesterov",
        "fedadagrad": "outer.adaptive:FedAdagrad",
        "fedadam": "outer.adaptive:FedAdam",
        "fedyogi": "outer.adaptive:FedYogi",
    }
)
