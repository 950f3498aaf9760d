"""The table of rooms: who may import whom, only downwards."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "enrichkit"
ORDER = """
errors
_fiction
simulator
_record
_exchange
_answer
_evidence
_stage
_atlas
funds
_table
_files
_body
_gemini
_pace
_gate
_listing
_retry
_price
_options
_budget
_parquet
_parts
_index
_store
_row
_questions
_work
_checkup
_past
_estimate
_plan
_queue
_sealing
_book
_workers
_endings
_status
_engine
_service
_frame
_verify
_ledger
_costs
_bill
_quality
_review
_dossier
_report
plots
_view
_widget
_screens
_progress
_messenger
_notice
_call
_run
_parameters
_aside
_sheet
_export
_standing
_flags
_logbook
_unattended
__main__
""".split()
ALONE = {
    "simulator": {"_fiction"},
    "errors": set(),
    "_fiction": set(),
    "_atlas": set(),
    "_store": {"_files", "_parquet", "_parts", "_index", "errors"},
    "_index": {"_files", "_parquet", "_parts", "errors"},
    "_parts": {"_files"},
    "_parquet": {"_files", "_table", "errors"},
    "_pace": set(),
    "_messenger": set(),
}


def imports(module: str) -> set[str]:
    """The modules of the package that a module names, lazy imports included."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def test_every_module_has_its_place():
    """A new module finds its place in the order, a dead one leaves it."""
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(ORDER)


def test_imports_go_downwards():
    """A module imports only what stands above it in the order, so there are no circles."""
    wrong = {(module, other) for place, module in enumerate(ORDER) for other in imports(module) - set(ORDER[:place])}
    assert wrong == set()


def test_some_rooms_know_little():
    """The simulator shares no line with what it tests; the store knows neither stages nor prices."""
    assert {module: imports(module) - allowed for module, allowed in ALONE.items()} == {
        module: set() for module in ALONE
    }


def test_only_one_room_knows_an_sdk():
    """Nothing else imports google."""
    knows = {path.stem for path in PACKAGE.glob("*.py") if "from google" in path.read_text(encoding="utf-8")}
    assert knows == {"_gemini"}


def test_only_the_messenger_knows_apprise():
    """It logs addresses and leaves threads behind, so it has a process of its own."""
    knows = {path.stem for path in PACKAGE.glob("*.py") if "import apprise" in path.read_text(encoding="utf-8")}
    assert knows == {"_messenger"}
