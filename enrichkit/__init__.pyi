from . import errors, funds, plots, simulator
from ._answer import Answer, Issue
from ._call import plan
from ._costs import costs, what_if
from ._dossier import Dossier, dossier
from ._exchange import Failure, Reply, Request, Source, Support, Usage
from ._export import export
from ._frame import batches, read
from ._parameters import check_parameters
from ._plan import Plan
from ._price import Price
from ._report import Report, report
from ._review import corrections, evidence, weak
from ._run import Run, run, start
from ._stage import Stage
from ._verify import Verification, verify
from .errors import EnrichError, Stopped

__all__ = [
    "Answer",
    "Dossier",
    "EnrichError",
    "Failure",
    "Issue",
    "Plan",
    "Price",
    "Reply",
    "Report",
    "Request",
    "Run",
    "Source",
    "Stage",
    "Stopped",
    "Support",
    "Usage",
    "Verification",
    "batches",
    "check_parameters",
    "corrections",
    "costs",
    "dossier",
    "errors",
    "evidence",
    "export",
    "funds",
    "plan",
    "plots",
    "read",
    "report",
    "run",
    "simulator",
    "start",
    "verify",
    "weak",
    "what_if",
]
