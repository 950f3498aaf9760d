"""What a store cost, known in two ways that must agree: by the columns of its rows, and by its raw replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from enrichkit import Price
from enrichkit.store.files import is_store
from enrichkit.store.reader import StoreReader
from enrichkit.store.replies import collect_replies, recorded_cost


def disagreements(out: Path, prices: Mapping[str, Price]) -> Iterator[str]:
    """Yield in what way the two differ, while nobody works on the store.

    A damaged store is not compared, nor one whose rows lack the record that paid for a shared answer.
    """
    if not is_store(out):
        return
    reader = StoreReader(out, warn=False)
    reader.check_everything()
    if reader.damaged:
        return
    fast = recorded_cost(reader, prices, simulated=reader.simulated)
    exact = collect_replies(reader, prices).cost
    if fast is None:
        return
    if abs(fast.usd - exact.usd) > 1e-9 or bool(fast.unpriced) != bool(exact.unpriced):
        yield f"The rows say that the store cost {fast}, its replies say {exact}."
