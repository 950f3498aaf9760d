"""The command line: ``python -m enrichkit simulate`` runs the simulator beside other programs."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Sequence

from .simulator import FAULTS, Quota, Simulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m enrichkit", description="The simulator of enrichkit.")
    commands = parser.add_subparsers(required=True, metavar="command")
    simulate = commands.add_parser(
        "simulate",
        help="serve a simulated Gemini on 127.0.0.1",
        description="Serve a simulated Gemini on 127.0.0.1 until interrupted. Everything it answers is invented.",
        epilog=f"Faults: {', '.join(FAULTS)}.",
    )
    simulate.add_argument(
        "--port", type=int, default=8899, help="port to listen on; 0 takes a free one (default: 8899)"
    )
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same answers (default: 0)")
    simulate.add_argument(
        "--latency", type=_latency, default=0.0, metavar="SECONDS", help="a reply takes so long; 0.5-3 is a spread"
    )
    simulate.add_argument("--per-minute", type=int, metavar="N", help="refuse more than N requests a minute")
    simulate.add_argument("--per-day", type=int, metavar="N", help="refuse more than N requests a day")
    simulate.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="NAME=P", help="a fault and its probability"
    )
    simulate.set_defaults(command=_simulate)
    found = parser.parse_args(arguments)
    return int(found.command(found))


def _latency(text: str) -> float | tuple[float, float]:
    low, _, high = text.partition("-")
    return (float(low), float(high)) if high else float(low)


def _fault(text: str) -> tuple[str, float]:
    name, _, probability = text.partition("=")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"there is no fault {name!r}")
    return name, float(probability or 1)


def _simulate(found: argparse.Namespace) -> int:
    try:
        simulator = Simulator(
            port=found.port,
            seed=found.seed,
            latency_seconds=found.latency,
            quota=Quota(found.per_minute) if found.per_minute else None,
            requests_per_day=found.per_day,
            faults=dict(found.fault),
        )
    except OSError as error:
        print(f"Port {found.port} cannot be used: {error.strerror}. Choose another with --port.", file=sys.stderr)
        return 1
    with simulator:
        print(f"A simulated Gemini answers at {simulator.url} until you press Ctrl-C. Its answers are invented.")
        print(f"To use it: GOOGLE_GEMINI_BASE_URL={simulator.url} GOOGLE_API_KEY=simulated", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            counts = {name: value for name, value in simulator.counts().items() if name != "prompts"}
            print("\n" + json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
