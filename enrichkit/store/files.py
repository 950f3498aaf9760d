"""The store's places, judged in one way for every verb, and the operations that change its files, behind one seam.

A file appears whole or not at all, and is durable when `Files.put` returns: written under a temporary name, fsynced,
renamed, its directory fsynced. No writer of Parquet does that by itself. On an object store one PUT takes its place.
The methods with an underscore are the single steps that a crash can fall between; tests replace them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError
from ..formatting import many

PROGRESS, OWNER, OUTSTANDING, MANIFEST = "enrichment_progress.json", "owner.json", "outstanding.json", "manifest.json"
DECISIONS = "decisions"

FIRST_SHARD = "shard=s0001"
SHARD = re.compile(r"shard=s(\d{4}|[1-9]\d{4,})")
PART = re.compile(r"part=(p(\d{4}))")
"""The folder of a part: each is a store of its own, of a store that several processes fill at a time."""
SHARDS_OF_A_PART = 100_000
"""So far apart are the shards' numbers of two parts, of which the first is p0001; each counts its own from 0."""
LONGEST_NAME = 255
"""In bytes; what file systems take."""


class Files:
    """Durable writing, by way of a ``scratch`` folder on the same disk, of files of that ``mode``."""

    def __init__(self, scratch: Path, *, mode: int = 0o600) -> None:
        self._scratch = scratch
        self._mode = mode
        self._made: set[Path] = set()
        self._name, self._numbers = uuid.uuid4().hex, itertools.count()

    def put(self, path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
        """Write a file durably, in place of one of that name if there is one; ``data`` may write it piece by piece."""
        self.make_folder(path.parent)
        self.make_folder(self._scratch)
        temporary = self._scratch / f"{self._name}-{next(self._numbers)}.tmp"
        try:
            self._write(temporary, data)
            self._rename(temporary, path)
        except BaseException:
            self._made.clear()  # a folder may have been removed
            # After a failed fsync the same file is never tried again: the kernel may have dropped its pages.
            with contextlib.suppress(OSError):
                self._unlink(temporary)
            raise
        self._sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is still there. That is not durable by itself: it can be removed again."""
        with contextlib.suppress(FileNotFoundError):
            self._unlink(path)

    def check_moves(self, folder: Path) -> None:
        """Raise if no file can be moved there from the scratch folder: mounts of one disk are two disks to a move."""
        probe = folder / ".probe"  # a name that no reader of a store looks at
        try:
            self.put(probe, b"")
        except OSError as error:
            why = "its work area is on another disk or mount" if error.errno == errno.EXDEV else error.strerror
            raise OSError(error.errno, why) from error
        self.remove(probe)

    def move(self, path: Path, target: Path) -> None:
        """Move a file, durably."""
        self.make_folder(target.parent)
        self._rename(path, target)
        self._sync_folder(target.parent)

    def make_folder(self, folder: Path) -> None:
        """Make a folder and its parents, private to the user, durably."""
        if folder not in self._made and not folder.is_dir():
            self.make_folder(folder.parent)
            self._mkdir(folder)
            self._sync_folder(folder.parent)
        self._made.add(folder)

    def free_bytes(self, folder: Path) -> int:
        """Return the space left on the disk that holds a folder."""
        return shutil.disk_usage(folder).free

    def _write(self, path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
        # Bytes at hand need no buffer: after each call to the system, the interpreter has to be waited for.
        with open(descriptor, "wb", buffering=-1 if callable(data) else 0) as file:
            if callable(data):
                data(file)
                file.flush()
            elif file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)

    def _rename(self, path: Path, target: Path) -> None:
        os.replace(path, target)

    def _unlink(self, path: Path) -> None:
        os.unlink(path)

    def _mkdir(self, folder: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)

    def _sync_folder(self, folder: Path) -> None:
        if os.name == "nt":  # Windows has no handle on a directory to sync
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def work_area(out: Path) -> Path:
    """Return the folder beside the shards; a link leads to the same one as its target, and so to the same lock.

    That of a part lies in its store's: in the store's folder, pandas and pyarrow would stumble over it.
    """
    real = out.resolve() if out.is_symlink() else out
    part = PART.fullmatch(out.name)
    return work_area(real.parent) / part[1] if part else area_beside(real)


def whole(out: Path) -> Path:
    """Return the store of a part; of any other store itself."""
    return out.parent if PART.fullmatch(out.name) else out


def part_of(out: Path, number: int) -> Path:
    """Return the folder of a part."""
    return out / f"part=p{number:04d}"


def parts_of(out: Path) -> list[Path]:
    """Return the parts of a store that any run has begun, in order; none if it is kept in one."""
    names = {name for name in names_in(out) if PART.fullmatch(name)}
    begun = {f"part={name}" for name in names_in(work_area(out))}
    return [out / name for name in sorted(names | set(filter(PART.fullmatch, begun)))]


def parts_in(out: Path) -> dict[Path, int]:
    """Return a store's parts, each with the number that its first shard has among all; a store in one is its own."""
    return {part: SHARDS_OF_A_PART * int(part.name[-4:]) for part in parts_of(out)} or {out: 0}


def shard_paths(parts: Mapping[Path, int]) -> dict[int, Path]:
    """Return the file of each sealed shard, by number; a folder that a crash left empty has none."""
    paths = {
        first + int(match[1]): part / match[0] / "part-0.parquet"
        for part, first in parts.items()
        for match in filter(None, map(SHARD.fullmatch, names_in(part)))
    }
    return {number: path for number, path in sorted(paths.items()) if path.name in names_in(path.parent)}


def shard_name(number: int) -> str:
    """Return how a shard is called in a store.

    >>> shard_name(7), shard_name(3 * SHARDS_OF_A_PART + 7)
    ('s0007', 'p0003/s0007')
    """
    part, own = divmod(int(number), SHARDS_OF_A_PART)
    return f"p{part:04d}/s{own:04d}" if part else f"s{own:04d}"


def is_of(number: int, first: int) -> bool:
    """Whether a shard is of the part with that first one."""
    return 0 <= number - first < SHARDS_OF_A_PART


def area_beside(folder: Path) -> Path:
    """Return the work area beside a folder; beside a partition it begins with _, so that other readers pass over it."""
    area = folder.with_name(folder.name + ".work")
    return area if "=" not in folder.name or area.is_dir() else area.with_name(f"_{area.name}")


def trial_area(out: Path) -> Path:
    """Return the folder of a store's trials, beside its work area: each of their sides is a store in it."""
    area = work_area(whole(out))
    return area.with_name(f"{area.name.removesuffix('.work')}.trial")


def trial_sides(out: Path) -> list[Path]:
    """Return the stores of a store's trials."""
    area = trial_area(out)
    with contextlib.suppress(OSError):  # a name that the area cannot have
        return [area / name for name in names_in(area) if is_store(area / name)]
    return []


def with_trials(out: Path) -> list[Path]:
    """Return the places of a store and the sides of its trials; of one of these sides, too."""
    area, name = out.parent, out.parent.name.removesuffix(".trial")
    bases = (area.with_name(each) for each in (name, name.removeprefix("_")) if each)
    base = next((each for each in bases if trial_area(each) == area), out)
    return [base, *trial_sides(base)]


def is_store(out: Path) -> bool:
    """Whether a run has stored something there, or has begun to."""
    held = _holds_shards(out) or _is_in_use(work_area(out)) or stray_work_area(out) is not None or bool(parts_of(out))
    return held and (out.is_dir() or not out.exists())


def _holds_shards(folder: Path) -> bool:
    with contextlib.suppress(PermissionError):
        return any(map(SHARD.fullmatch, names_in(folder)))
    return False


def _is_in_use(area: Path) -> bool:
    """Whether a work area is a run's: it has a lock, a manifest, decisions or replies."""
    with contextlib.suppress(PermissionError):
        return not {"lock", MANIFEST, DECISIONS}.isdisjoint(names_in(area)) or bool(names_in(area / "pending"))
    return False


def stray_work_area(out: Path) -> Path | None:
    """Return a work area with replies or decisions that was left beside a link, as when the store behind it moved."""
    beside = area_beside(out)
    left = out.is_symlink() and any(names_in(beside / name) for name in ("pending", DECISIONS))
    return beside if left and not (work_area(out).exists() and beside.samefile(work_area(out))) else None


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folder_of(out: str | Path) -> Path:
    """Return a store's folder as an absolute path: it stays the same when the process changes its directory.

    Raises
    ------
    InputError
        If no store can be there: it has no usable name, lies in another store, or holds stores.
    """
    try:
        folder = _named(out)
        real = folder.resolve()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            "{path!r:.100} cannot be a store's folder: {reason}. Choose another {out}.", path=str(out), reason=reason
        ) from error
    for place in dict.fromkeys((folder, *folder.parents, real, *real.parents)):
        if place.suffix == ".work" and _is_in_use(place):
            raise InputError("{folder} is or lies in a work area. Choose another {out}.", folder=folder)
        # Not by a list of what is in it: above may be thousands of other things.
        above = place.name and place not in (folder, real, whole(folder), whole(real))
        if above and ((place / FIRST_SHARD).is_dir() or _is_in_use(work_area(place))):
            raise InputError("{folder} lies in the store {store}. Choose another {out}.", folder=folder, store=place)
    if not is_store(folder) and (stores := [name for name in names_in(folder) if is_store(folder / name)]):
        raise InputError(
            "{folder} holds {count}: {listed}{more}. Name one.",
            folder=folder,
            count=many(len(stores), "store"),
            listed=", ".join(stores[:5]),
            more=f" and {len(stores) - 5:,} more" if len(stores) > 5 else "",
        )
    return folder


def _named(out: str | Path) -> Path:
    """Return a path that a folder and its work area can have; raise if there is none."""
    if not str(out).strip():
        raise ValueError("it has no name")
    folder = Path(out).expanduser().absolute()
    if folder.name in ("", ".."):
        raise ValueError("it has no name of its own")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(folder)  # a loop of links, a NUL
    if max(len(os.fsencode(part)) for part in (*folder.parts, work_area(folder).name)) > LONGEST_NAME:
        raise ValueError(f"with .work for what lies beside it, its name is longer than {LONGEST_NAME} bytes")
    return folder


def check_place(folder: Path, *, alone: bool = False) -> None:
    """Raise for a place that a run must not write in: a file, a folder of other things, a mount point, a store's name.

    In a store there may be other things, unless it has to be ``alone``.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("{folder} is a file. The store is a folder: choose another {out}.", folder=folder)
    ours = [name for name in names_in(folder) if SHARD.fullmatch(name) or PART.fullmatch(name)]
    others = [name for name in names_in(folder) if name[0] not in "._" and name not in ours]
    if others and (alone or not is_store(folder)):
        raise InputError(
            "{folder}, where the store would be, is a folder with other things in it, such as {name}. Choose another "
            "{out}, or move them away.",
            folder=folder,
            name=others[0],
        )
    area = work_area(folder)
    if _holds_shards(area):
        raise InputError(
            "{area}, the work area of {folder}, is a store. Choose another {out}.", area=area, folder=folder
        )
    if _is_mounted(folder.resolve()):
        raise InputError(
            "{folder} is a mount point: its replies and lock would lie elsewhere, in {area}. Give an {out} in it.",
            folder=folder,
            area=area,
        )


def _is_mounted(folder: Path) -> bool:
    """Whether a folder is a mount point, also of a folder on the same disk."""
    points: list[str] = []
    with contextlib.suppress(OSError):  # there is no such file but on Linux
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()]
    escaped = re.sub(r"[\s\\]", lambda sign: f"\\{ord(sign[0]):03o}", str(folder))
    return escaped in points or os.path.ismount(folder)


def read_progress(out: Path) -> dict[str, Any]:
    """Return what the last run wrote about itself; nothing if it did not, or cannot be read."""
    return read_json(work_area(out) / PROGRESS)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing if it holds no object, or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
