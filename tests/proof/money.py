"""What a store cost, known in two ways that must agree: by the columns of its rows, and by its raw replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from enrichkit import Price
from enrichkit.store.files import work_area
from enrichkit.store.index import indexed, is_store
from enrichkit.store.reader import StoreReader
from enrichkit.store.replies import cost_in_store
from enrichkit.store.rows import RECORD_ID
from enrichkit.store.store import Store


def disagreements(out: Path, prices: Mapping[str, Price]) -> Iterator[str]:
    """Yield in what way the two differ, while nobody works on the store.

    A damaged store is not compared, nor one of which a shard was put aside: with the row that paid for a shared answer
    its cost is gone, while other rows still hold the reply.
    """
    if not is_store(out) or any((work_area(out) / "quarantine").glob("*.parquet")):
        return
    reader = StoreReader(out, warn=False)
    reader.check_everything()
    if reader.damaged:
        return
    store = Store(out, columns=indexed(reader.stages), id_column=RECORD_ID)
    try:
        fast, exact = cost_in_store(store, prices), reader.replies(prices).cost
    finally:
        store.close()
    if abs(fast.usd - exact.usd) > 1e-9 or bool(fast.unpriced) != bool(exact.unpriced):
        yield f"The rows say that the store cost {fast}, its replies say {exact}."
