from . import errors, messages, trust
from .api import batches, check_parameters, plan, run, start
from .errors import EnrichError, Stopped
from .gemini import simulator
from .planning.summary import Plan
from .pricing.prices import Price
from .reading.answer import Answer, Issue
from .reporting import plots
from .reporting.costs import costs
from .reporting.report import Report, report
from .reporting.tablefiles import export
from .reporting.verify import verify
from .runs.runner import Run
from .runs.trial import trial
from .stages import checks, funds
from .stages.stage import Stage
from .status import Status
from .store.reader import read

__all__ = [
    "Answer",
    "EnrichError",
    "Issue",
    "Plan",
    "Price",
    "Report",
    "Run",
    "Stage",
    "Status",
    "Stopped",
    "batches",
    "check_parameters",
    "checks",
    "costs",
    "errors",
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
    "trial",
    "trust",
    "verify",
]
