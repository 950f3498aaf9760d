from . import errors
from .api import batches, plan, run, start
from .errors import EnrichError, Stopped
from .gemini import simulator
from .messages import Failure, Reply, Request, Source, Support, Usage
from .options import check_parameters
from .planning.summary import Plan
from .pricing.prices import Price
from .reporting import plots
from .reporting.costs import costs, what_if
from .reporting.dossier import Dossier, dossier
from .reporting.report import Report, report
from .reporting.tablefiles import export
from .reporting.trust import corrections, evidence, weak
from .reporting.verify import Verification, verify
from .runner import Run
from .stages import funds
from .stages.answer import Answer, Issue
from .stages.stage import Stage
from .store.reader import read

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
