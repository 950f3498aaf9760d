from . import plots
from .costs import Bill, CostLine, StageCost, what_if
from .quality import Finding, Quality
from .report import Throughput
from .verify import Verification

__all__ = [
    "Bill",
    "CostLine",
    "Finding",
    "Quality",
    "StageCost",
    "Throughput",
    "Verification",
    "plots",
    "what_if",
]
