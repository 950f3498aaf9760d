"""The operations that change the store's files, all of them, behind one seam.

A file appears whole or not at all, and is durable when `Files.put` returns: written under a temporary name, fsynced,
renamed, its directory fsynced. No writer of Parquet does that by itself. On an object store one PUT takes its place.
The methods with an underscore are the single steps that a crash can fall between; tests replace them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

PROGRESS, OWNER, OUTSTANDING, MANIFEST = "enrichment_progress.json", "owner.json", "outstanding.json", "manifest.json"


class Files:
    """Durable writing, by way of a ``scratch`` folder on the same disk, of files of that ``mode``."""

    def __init__(self, scratch: Path, *, mode: int = 0o600) -> None:
        self._scratch = scratch
        self._mode = mode
        self._made: set[Path] = set()

    def put(self, path: Path, data: bytes) -> None:
        """Write a file durably, in place of one of that name if there is one."""
        self.make_folder(path.parent)
        self.make_folder(self._scratch)
        temporary = self._scratch / f"{uuid.uuid4().hex}.tmp"
        try:
            self._write(temporary, data)
            self._rename(temporary, path)
        except OSError:
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
        self.make_folder(self._scratch)
        probe, moved = self._scratch / "probe", folder / ".probe"  # a name that no reader of a store looks at
        self._write(probe, b"")
        self._rename(probe, moved)
        self._unlink(moved)

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

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
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
    """Return the folder beside the shards; a link leads to the same one as its target, and so to the same lock."""
    real = out.resolve() if out.is_symlink() else out
    return real.with_name(real.name + ".work")


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folder_of(out: str | Path) -> Path:
    """Return a store's folder as an absolute path: it stays the same when the process changes its directory."""
    return Path(out).expanduser().absolute()


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
