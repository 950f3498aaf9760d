"""The seam between a run and what asks its questions: an engine in this process, or those of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pandas as pd
import pyarrow as pa

from ..engine.shard_writer import Row
from ..planning.plan import RunPlan
from ..status import Status
from .options import Options


class Driver(Protocol):
    """What asks: it goes on until all is asked, or something ends it."""

    reason: tuple[str, str] | None

    @property
    def status(self) -> Status: ...

    def drive(self) -> None: ...

    def stop(self, reason: str = "stop", message: str = "") -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Outcome(Protocol):
    """What has come of it: the plan, the records that are complete, and their rows."""

    plan: RunPlan

    @property
    def completed(self) -> Sequence[int]: ...

    def completed_rows(self, records: Sequence[int], own_names: Mapping[str, str]) -> list[Row]: ...

    def unsealed(self) -> tuple[list[Row], pa.Schema]: ...


Opener = Callable[[pd.DataFrame, Options, contextlib.ExitStack], tuple[Driver, Outcome]]
"""Opens what a call needs; the stack closes it."""
