from . import errors, funds, simulator
from ._answer import Answer, Issue
from ._exchange import Failure, Reply, Request, Source, Usage
from ._plan import Plan
from ._price import Price
from ._run import Run, batches, plan, read, run, start
from ._stage import Stage
from ._verify import Verification, verify
from .errors import EnrichError, Stopped

__all__ = [
    "Answer",
    "EnrichError",
    "Failure",
    "Issue",
    "Plan",
    "Price",
    "Reply",
    "Request",
    "Run",
    "Source",
    "Stage",
    "Stopped",
    "Usage",
    "Verification",
    "batches",
    "errors",
    "funds",
    "plan",
    "read",
    "run",
    "simulator",
    "start",
    "verify",
]
