"""The table of fusion methods: every name that a recipe may use."""

from __future__ import annotations

from coldfuse.fusion.average.interpolate import Extrapolate, Interpolate
from coldfuse.fusion.average.mean import Mean, WeightedMean
from coldfuse.fusion.average.soups import Ratatouille, UniformSoup
from coldfuse.fusion.average.task_arithmetic import Analogy, Negate, TaskArithmetic
from coldfuse.fusion.informed.fisher import Fisher
from coldfuse.fusion.informed.precision import Precision
from coldfuse.fusion.informed.regmean import RegMean
from coldfuse.fusion.matrix.compress import LowRank
from coldfuse.fusion.matrix.fwsvd import FWSVD
from coldfuse.fusion.matrix.iso_c import IsoC
from coldfuse.fusion.matrix.iso_cts import IsoCTS
from coldfuse.fusion.matrix.knots import Knots
from coldfuse.fusion.matrix.opcm import OPCM
from coldfuse.fusion.matrix.tsv_m import TSVM
from coldfuse.fusion.matrix.wudi import Wudi, WudiAdam
from coldfuse.fusion.method import Method
from coldfuse.fusion.outer.adaptive import FedAdagrad, FedAdam, FedYogi
from coldfuse.fusion.outer.momentum import Momentum
from coldfuse.fusion.outer.nesterov import Nesterov
from coldfuse.fusion.robust.bulyan import Bulyan
from coldfuse.fusion.robust.centred_clip import CentredClip
from coldfuse.fusion.robust.clip import Clip
from coldfuse.fusion.robust.foolsgold import FoolsGold
from coldfuse.fusion.robust.geometric_median import GeometricMedian
from coldfuse.fusion.robust.krum import Krum, MultiKrum
from coldfuse.fusion.robust.median import Median
from coldfuse.fusion.robust.trimmed_mean import TrimmedMean
from coldfuse.fusion.sparse.breadcrumbs import Breadcrumbs
from coldfuse.fusion.sparse.consensus import Consensus
from coldfuse.fusion.sparse.dare import Dare
from coldfuse.fusion.sparse.della import Della
from coldfuse.fusion.sparse.magmax import Magmax
from coldfuse.fusion.sparse.pcb import Pcb
from coldfuse.fusion.sparse.ram import Ram, RamPlus
from coldfuse.fusion.sparse.sce import Sce
from coldfuse.fusion.sparse.ties import Ties
from coldfuse.fusion.sparse.trim import Trim
from coldfuse.fusion.spherical.karcher import Karcher
from coldfuse.fusion.spherical.model_stock import ModelStock
from coldfuse.fusion.spherical.multi_slerp import MultiSlerp
from coldfuse.fusion.spherical.nearswap import Nearswap
from coldfuse.fusion.spherical.nuslerp import Nuslerp, NuslerpRows
from coldfuse.fusion.spherical.slerp import Slerp

METHODS: dict[str, type[Method]] = {
    # averages
    "mean": Mean,
    "weighted-mean": WeightedMean,
    "uniform-soup": UniformSoup,
    "ratatouille": Ratatouille,
    "task-arithmetic": TaskArithmetic,
    "negate": Negate,
    "analogy": Analogy,
    "interpolate": Interpolate,
    "extrapolate": Extrapolate,
    # sparse
    "ties": Ties,
    "trim": Trim,
    "dare": Dare,
    "della": Della,
    "breadcrumbs": Breadcrumbs,
    "consensus": Consensus,
    "pcb": Pcb,
    "magmax": Magmax,
    "sce": Sce,
    "ram": Ram,
    "ram-plus": RamPlus,
    # spherical
    "slerp": Slerp,
    "nuslerp": Nuslerp,
    "nuslerp-rows": NuslerpRows,
    "multi-slerp": MultiSlerp,
    "karcher": Karcher,
    "model-stock": ModelStock,
    "nearswap": Nearswap,
    # matrix
    "iso-c": IsoC,
    "iso-cts": IsoCTS,
    "tsv-m": TSVM,
    "knots": Knots,
    "wudi": Wudi,
    "wudi-adam": WudiAdam,
    "opcm": OPCM,
    "low-rank": LowRank,
    "fwsvd": FWSVD,
    # robust
    "clip": Clip,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "geometric-median": GeometricMedian,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "bulyan": Bulyan,
    "centred-clip": CentredClip,
    "foolsgold": FoolsGold,
    # informed by statistics
    "regmean": RegMean,
    "fisher": Fisher,
    "precision": Precision,
    # outer
    "momentum": Momentum,
    "nesterov": Nesterov,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}
