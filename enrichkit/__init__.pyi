from . import errors, messages
from .api import batches, plan, run, start
from .errors import EnrichError, Stopped
from .gemini import simulator
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
from .status import Status
from .store.reader import read

__all__ = [
    "Answer",
    "Dossier",
    "EnrichError",
    "Issue",
    "Plan",
    "Price",
    "Report",
    "Run",
    "Stage",
    "Status",
    "Stopped",
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
    "messages",
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
