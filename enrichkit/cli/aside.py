"""Setting a store aside: it keeps everything, under another name, and makes room for a new one."""

from __future__ import annotations

import time
from pathlib import Path

import filelock

from ..errors import LockedError, StoreError
from ..store.files import work_area


def set_aside(out: Path) -> Path | None:
    """Rename a store and its work area; return its new folder, None if there was nothing. Nothing is deleted.

    Raises
    ------
    LockedError
        If a run works on it.
    StoreError
        If it cannot be renamed.
    """
    area = work_area(out)
    place = out.resolve() if out.is_symlink() else out
    if not place.exists() and not area.exists():
        return None
    aside = place.with_name(f"{place.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    number = 1
    while aside.exists() or work_area(aside).exists():
        number += 1
        aside = place.with_name(f"{place.name}.{time.strftime('%Y%m%d-%H%M%S')}-{number}")
    try:
        if area.is_dir():
            with filelock.FileLock(str(area / "lock"), timeout=0, mode=0o600):
                # The shards first: what a crash in between leaves is taken up by the next call, or set aside by it.
                _rename(place, aside)
                _rename(area, work_area(aside))
        else:
            _rename(place, aside)
    except filelock.Timeout:
        raise LockedError("Another run works on {store}. Wait for it or stop it.", store=out) from None
    except OSError as error:
        raise StoreError(
            "{store} cannot be moved aside: {reason}.", store=out, reason=error.strerror or error
        ) from error
    if out.is_symlink():
        place.mkdir()
    return aside


def _rename(path: Path, target: Path) -> None:
    if path.exists():
        path.rename(target)
