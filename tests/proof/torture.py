"""The long proof of the store: many kills and every crash state. Run as a program it prints its figures as Markdown."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import sys
import time

from proof import crashes, kills


def main() -> int:
    """Kill, crash, count, print; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description="Prove that no paid answer is lost and none counted is paid twice.")
    parser.add_argument("--kills", type=int, default=1000, help="how many runs are killed (default: 1000)")
    parser.add_argument("--deeper", type=int, default=25, help="crash states per call whose recovery crashes, too")
    given = parser.parse_args()
    started = time.monotonic()
    toll = kills.torment(given.kills, seed=2026, told=lambda toll: print(toll, file=sys.stderr, flush=True))
    killing, started = time.monotonic() - started, time.monotonic()
    verdicts = {}
    for way, seconds in crashes.WAYS.items():
        crashes.SEAL_SECONDS = seconds
        for phase in crashes.PHASES:
            name = f"{phase}, {way}"
            verdicts[name] = crashes.prove(phase, seed=2026, deeper=given.deeper)
            print(crashes.summary({name: verdicts[name]}), file=sys.stderr, flush=True)
    broken = [*toll.broken, *(problem for verdict in verdicts.values() for problem in verdict.broken)]
    print(report(toll, killing, verdicts, time.monotonic() - started))
    for problem in broken[:50]:
        print(f"- {problem}")
    return int(bool(broken))


def report(toll: kills.Toll, killing: float, verdicts: dict[str, crashes.Verdict], crashing: float) -> str:
    """Return the figures as Markdown."""
    packages = ("pyarrow", "filelock", "joblib", "pandas", "google-genai")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = [
        ("kill -9", f"{toll.kills:,} kills of {toll.runs:,} runs in {toll.stores:,} stores, {killing / 60:.0f} min"),
        ("replies paid", f"{toll.paid:,}"),
        ("paid again", f"{toll.paid_again:,}; at most {toll.most_by_one_kill} by one kill ({kills.WORKERS} workers)"),
        ("violations", f"{len(toll.broken):,}"),
        *(
            (f"crash states, {name}", f"{one.states:,}, {len(one.broken):,} violations")
            for name, one in verdicts.items()
        ),
        ("crash states in all", f"{sum(one.states for one in verdicts.values()):,}, {crashing / 60:.0f} min"),
    ]
    lines = ["| what | figure |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)]
    system = f"{platform.system()}, Python {platform.python_version()}"
    return "\n".join([f"Measured on {day} ({system}, {versions}):", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
