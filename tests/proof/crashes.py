"""Crash states: what a disk may hold after a crash at any instant, by the record of every file operation.

A run is traced step by step over the store's seam of file operations. After each step the disk may hold: everything
that was synced; of what was not synced since, any part of the changes to a folder; and of a file that was not synced
itself all, nothing or half. Each such state is put on a real disk, the same call is made again, and what comes of it
is compared with what was promised.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow.parquet as pq

import enrichkit
from enrichkit import Answer, Price, Stage
from enrichkit.messages import Failure, Reply, Usage
from enrichkit.store.files import Files
from enrichkit.store.store import Store
from proof.money import disagreements

MOST_OF_ONE_INSTANT = 24
"""States taken of one instant; where there are more, a random choice."""
WAYS = {"full shards": 60.0, "growing shards": 0.0}
"""Seconds between two seals: with 0 shards grow, row by row; else each is sealed once it is full, or at the end."""
SEAL_SECONDS = WAYS["full shards"]


class Company(Answer):
    industry: str | None = None
    size: str | None = None


class Counted(Answer):
    industry: str | None = None
    size: int | None = None


def _stage(name: str, prompt: str, answer: type[Answer] = Company, **settings: Any) -> Stage:
    return Stage(name, prompt=prompt, answer=answer, search=False, **settings)


COUNTRY = _stage("land", "What is made in {country}?")
COMPANY = _stage("company", "What does {name} make?")
READ_ANEW = _stage("company", "What does {name} make?", Counted)
CHANGED = _stage("company", "Tell what {name} makes, please.", Counted)
TABLE = pd.DataFrame(
    {"name": ["Acme", "Bolt", "Cask", "Dory", "Eyot"], "country": ["Peru", "Fiji", "Peru", "Fiji", "Chad"]}
)
PHASES: dict[str, dict[str, Any]] = {
    "first": {"stages": [COUNTRY]},
    "stage added": {"stages": [COUNTRY, COMPANY]},
    "failed retried": {"stages": [COUNTRY, COMPANY], "retry_failed": True},
    "read anew": {"stages": [COUNTRY, READ_ANEW]},
    "question changed": {"stages": [COUNTRY, CHANGED], "on_change": "redo"},
}
"""The calls on one store, one after the other: each way in which shards are written."""


class Teller:
    """Answers for one dollar each, the first time about Bolt with a failure; knows what was asked of it."""

    def __init__(self, *, refuses: str = "") -> None:
        self.asked: list[str] = []
        self.refuses = refuses

    def __call__(self, request: enrichkit.messages.Request) -> Reply:
        self.asked.append(request.question)
        time.sleep(0 if SEAL_SECONDS else 0.003)  # one by one: replies that come together are sealed together
        usage = Usage(prompt_tokens=1000, output_tokens=0, searches=0)
        if self.refuses and self.refuses in request.text:
            return Reply(usage=usage, failure=Failure(cause="blocked", message="SAFETY"))
        word = request.text.rsplit("⟦", 1)[1].split("⟧", 1)[0]
        return Reply(text=f'{{"industry": "{word}", "size": "7"}}', usage=usage)


PRICES = {"m": Price(input_usd=1000, output_usd=0)}


def call(phase: str, out: Path, client: Callable[[enrichkit.messages.Request], Reply]) -> pd.DataFrame:
    """Make one of the calls."""
    settings = {"key": "name", "model": "m", "prices": PRICES, "workers": 2, "progress": False}
    settings["shard_rows"] = 2 if SEAL_SECONDS else 3  # two records share a country, and are complete together
    with (
        mock.patch("enrichkit.store.store.MOST_JOURNAL_FILES", 2),  # so that journal files are merged, too
        mock.patch.multiple("enrichkit.engine.driver", SEAL_SECONDS=SEAL_SECONDS, SEAL_SHARE=0),
    ):
        return enrichkit.run(TABLE, out=out, client=client, **settings, **PHASES[phase])


def client_of(phase: str) -> Teller:
    """Return the client of a call: the second stage fails for one record, until it is retried."""
    return Teller(refuses="does ⟦Bolt⟧" if phase == "stage added" else "")


# The trace ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One file operation, or ``counted``: from here on these questions must never be asked again."""

    kind: str
    path: Path = Path()
    target: Path = Path()
    data: bytes = b""
    questions: frozenset[str] = frozenset()


class Trace:
    """Records the steps of every store that is opened while it is active."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __enter__(self) -> Trace:
        steps = self.steps
        append, open_file, sync = Store.append, os.open, os.fsync
        opened: dict[int, Path] = {}

        class Traced(Files):
            def _write(self, path: Path, data: Any) -> None:
                steps.append(Step("write", path, data=bytes(data)))
                super()._write(path, data)

            def _rename(self, path: Path, target: Path) -> None:
                super()._rename(path, target)
                steps.append(Step("rename", path, target))

            def _unlink(self, path: Path) -> None:
                super()._unlink(path)
                steps.append(Step("unlink", path))

            def _mkdir(self, folder: Path) -> None:
                super()._mkdir(folder)
                steps.append(Step("mkdir", folder))

        def opening(path: Any, *args: Any) -> int:
            descriptor = open_file(path, *args)
            opened[descriptor] = Path(path)
            return descriptor

        def syncing(descriptor: int) -> None:
            sync(descriptor)
            path = opened[descriptor]
            steps.append(Step("sync folder" if path.is_dir() else "sync", path))

        def counting(self: Store, entries: Any) -> None:
            append(self, entries)
            final = frozenset(entry.question for entry in entries if entry.status != "again")
            steps.append(Step("counted", questions=final))

        # The system's own calls, not the store's: what does not happen must not be on record.
        system = SimpleNamespace(**vars(os) | {"open": opening, "fsync": syncing})
        self._patches = [
            mock.patch("enrichkit.store.store.Files", Traced),
            mock.patch("enrichkit.store.files.os", system),
            mock.patch.object(Store, "append", counting),
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


# The disk ----------------------------------------------------------------------------------------------------------

Image = dict[Path, bytes | None]
"""What a disk holds: files with their bytes, folders with None; relative to the root."""


@dataclass
class Disk:
    """A disk's durable image, and the changes that no sync has made durable yet."""

    image: Image
    volatile: list[Step] = field(default_factory=list)
    unsynced: set[Path] = field(default_factory=set)
    data: dict[Path, bytes] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        """Let a step happen."""
        if step.kind == "write":
            self.data[step.path] = step.data
            self.unsynced.add(step.path)
            self.volatile.append(step)
        elif step.kind == "sync":
            self.unsynced.discard(step.path)
        elif step.kind == "rename":
            self.data[step.target] = self.data.pop(step.path, b"")
            if step.path in self.unsynced:
                self.unsynced.add(step.target)
            self.unsynced.discard(step.path)
            # What lies under the temporary name matters to nobody: the rename stands for the write.
            self.volatile = [one for one in self.volatile if one.path != step.path]
            self.volatile.append(Step("rename", step.path, step.target, self.data[step.target]))
        elif step.kind in ("unlink", "mkdir"):
            self.volatile = [one for one in self.volatile if not (one.kind == "write" and one.path == step.path)]
            self.volatile.append(step)
        elif step.kind == "sync folder":
            durable = [one for one in self.volatile if _folder(one) == step.path]
            self.volatile = [one for one in self.volatile if _folder(one) != step.path]
            for one in durable:
                _apply(self.image, one, one.data)

    def states(self, chance: random.Random) -> Iterator[Image]:
        """Yield what the disk may hold if it crashes now."""
        choices: list[tuple[Any, ...]] = []
        for one in self.volatile:
            place = one.target if one.kind == "rename" else one.path
            whole = [one.data] if place not in self.unsynced else [one.data, b"", one.data[: len(one.data) // 2]]
            choices.append((None, *((one, data) for data in whole)))
        loose = [path for path in self.unsynced if path in self.image]  # renamed durably, never synced itself
        for path in loose:
            whole = self.image[path] or b""
            choices.append(tuple((Step("write", path), data) for data in (whole, b"", whole[: len(whole) // 2])))
        size = 1
        for choice in choices:
            size *= len(choice)
        every = itertools.product(*choices)
        picked = (
            every
            if size <= MOST_OF_ONE_INSTANT
            else (tuple(chance.choice(choice) for choice in choices) for _ in range(MOST_OF_ONE_INSTANT))
        )
        for some in picked:
            image = dict(self.image)
            for chosen in some:
                if chosen is not None:
                    _apply(image, *chosen)
            yield image


def _folder(step: Step) -> Path:
    return (step.target if step.kind == "rename" else step.path).parent


def _apply(image: Image, step: Step, data: bytes) -> None:
    if step.kind == "unlink":
        image.pop(step.path, None)
        return
    place = step.target if step.kind == "rename" else step.path
    if place.parent == Path() or place.parent in image:  # a folder that was lost takes with it what was in it
        image[place] = None if step.kind == "mkdir" else data


def snapshot(root: Path) -> Image:
    """Return what lies under a folder."""
    return {path.relative_to(root): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


def materialize(image: Image, root: Path) -> None:
    """Put an image on the real disk."""
    for path, data in sorted(image.items()):
        if data is None:
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)


# The proof ---------------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """How many different states were tried, and what was broken in which."""

    states: int = 0
    broken: list[str] = field(default_factory=list)


def fast_folder() -> Path | None:
    """Return a folder in memory, where syncing costs nothing; None where there is none."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None


def traced_call(phase: str, root: Path, client: Teller) -> list[Step]:
    """Make a call and return its steps, with paths relative to the root."""
    with Trace() as trace:
        call(phase, root / "out", client)
    return [
        Step(
            step.kind,
            step.path.relative_to(root) if step.path.is_absolute() else step.path,
            step.target.relative_to(root) if step.target.is_absolute() else step.target,
            step.data,
            step.questions,
        )
        for step in trace.steps
    ]


@dataclass(frozen=True)
class State:
    """What a disk holds after a crash, when that was, and what counted by then."""

    when: str
    image: Image
    counted: frozenset[str]


def crash_states(before: Image, steps: list[Step], chance: random.Random) -> Iterator[State]:
    """Yield each different state that a crash of a call may leave."""
    disk = Disk(dict(before))
    counted: frozenset[str] = frozenset()
    seen: set[int] = set()
    for number, step in enumerate(steps):
        disk.take(step)
        counted |= step.questions
        for image in disk.states(chance):
            mark = hash((frozenset(image.items()), counted))
            if mark not in seen:
                seen.add(mark)
                yield State(f"step {number} of {len(steps)} ({step.kind})", image, counted)


def check(phase: str, root: Path, counted: frozenset[str]) -> Iterator[str]:
    """Make the call again and yield whatever is not as promised."""
    client = client_of(phase)
    try:
        enriched = call(phase, root / "out", client)
    except Exception as error:  # noqa: BLE001 - any exception at all is a finding
        yield f"{type(error).__name__}: {error}"
        return
    if again := counted & set(client.asked):
        yield f"{len(again)} counted questions were asked again"
    if len(client.asked) != len(set(client.asked)):
        yield "one call asked a question twice"
    yield from _wrong_answers(phase, enriched, root)


def _wrong_answers(phase: str, enriched: pd.DataFrame, root: Path) -> Iterator[str]:
    found = enrichkit.verify(root / "out")
    yield from found.problems
    yield from disagreements(root / "out", PRICES)
    stored = enrichkit.read(root / "out").set_index("name")
    if sorted(stored.index) != sorted(TABLE["name"]):
        yield f"the store has the records {sorted(stored.index)}"
    cost = sum(stored[column].sum() for column in stored.columns if column.endswith("._cost_usd"))
    if cost != found.replies or found.pending:
        yield f"{found.replies} replies are stored and {found.pending} pending, {cost:.0f} are recorded"
    for stage in PHASES[phase]["stages"]:
        about = "country" if stage.name == "land" else "name"
        failed = {"Bolt"} if stage.name == "company" and phase == "stage added" else set()
        for name, told in zip(enriched["name"], enriched[f"{stage.name}.industry"], strict=True):
            wanted = TABLE.set_index("name").reset_index().set_index("name", drop=False).loc[name, about]
            if (pd.isna(told) or told != wanted) != (name in failed):
                yield f"{name} has the answer {told!r} of {stage.name}"


def prove(
    phase: str, *, seed: int = 0, most: int | None = None, deeper: int = 0, told: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Try the crash states of one call; of ``deeper`` of them also those of the recovery that follows.

    Parameters
    ----------
    phase : str
        The call.
    most : int, optional
        How many states at the most, chosen at random; and as many of each recovery that crashes.
    deeper : int
        For so many states the recovery crashes too, at each of its steps.
    told : callable
        Called with the number of states after each.
    """
    chance = random.Random(f"{seed} {phase}")
    verdict = Verdict()
    with tempfile.TemporaryDirectory(dir=fast_folder()) as scratch:
        root = Path(scratch) / "run"
        root.mkdir()
        for earlier in itertools.takewhile(lambda name: name != phase, PHASES):
            call(earlier, root / "out", client_of(earlier))
        before = snapshot(root)
        steps = traced_call(phase, root, client_of(phase))
        states = _some(crash_states(before, steps, chance), most, chance)
        deep = set(chance.sample(range(len(states)), min(deeper, len(states))))
        for place, state in enumerate(states):
            _try(verdict, phase, state, Path(scratch))
            seconds = _crash_again(phase, state, Path(scratch), chance) if place in deep else []
            for second in _some(seconds, most, chance):
                _try(verdict, phase, second, Path(scratch))
            told(verdict.states)
    return verdict


def _some(states: Iterable[State], most: int | None, chance: random.Random) -> list[State]:
    every = list(states)
    return every if most is None or len(every) <= most else chance.sample(every, most)


def _try(verdict: Verdict, phase: str, state: State, scratch: Path) -> None:
    root = Path(tempfile.mkdtemp(dir=scratch))
    materialize(state.image, root)
    verdict.states += 1
    verdict.broken += [f"{phase}, {state.when}: {problem}" for problem in check(phase, root, state.counted)]
    shutil.rmtree(root)


def _crash_again(phase: str, state: State, scratch: Path, chance: random.Random) -> list[State]:
    """Return the states after the call that goes on after a crash has crashed as well."""
    root = Path(tempfile.mkdtemp(dir=scratch))
    materialize(state.image, root)
    steps = traced_call(phase, root, client_of(phase))
    shutil.rmtree(root)
    return [
        State(f"{state.when}, then {second.when} of the recovery", second.image, state.counted | second.counted)
        for second in crash_states(state.image, steps, chance)
    ]


def summary(verdicts: Mapping[str, Verdict]) -> str:
    """Return the verdicts, a line for each call."""
    return "\n".join(f"{name}: {one.states:,} states, {len(one.broken):,} violations" for name, one in verdicts.items())


def damage(out: Path, column: str) -> None:
    """Turn one bit in a column of the first shard."""
    path = min(out.rglob("*.parquet"))
    row_group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = map(row_group.column, range(row_group.num_columns))
    chunk = next(found for found in chunks if found.path_in_schema.startswith(column))
    data = bytearray(path.read_bytes())
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
