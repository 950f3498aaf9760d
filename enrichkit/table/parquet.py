"""Parquet files whose every byte that matters is checked, and tables of different shards put together."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import StoreError
from .arrow import as_type, wider

CHECKSUM = b"enrichkit.crc32="
NO_CHECKSUM = b"00000000"


def encode_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file, checksums included.

    Parquet's own checksums cover the pages but not the footer, where one flipped bit can rename a column or point it
    at another's pages. So the footer carries a CRC-32 of itself, worked out with its own eight digits as zeros.

    Raises
    ------
    StoreError
        If what was written cannot be read again: no reply may be removed for a file that cannot be opened.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), CHECKSUM: NO_CHECKSUM})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = bytearray(sink.getvalue())
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # The last match: a cell or a column's name may hold the same text, and comes before it.
    place = data.index(NO_CHECKSUM, data.rindex(CHECKSUM, start))
    data[place : place + 8] = b"%08x" % zlib.crc32(data[start:])
    try:
        _read(pa.BufferReader(data), ())
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            "These rows make a shard that cannot be read again ({reason}), so it was not "
            "written. The replies are safe beside the store. Please report this.",
            reason=error,
        ) from error
    return bytes(data)


def _footer_is_sound(source: pa.NativeFile) -> bool:
    size = source.size()
    length = int.from_bytes(source.read_at(4, max(0, size - 8)), "little")
    if length + 12 > size:
        return False
    end = source.read_at(length + 8, size - 8 - length)
    checksum = re.compile(CHECKSUM + rb".{2}([0-9a-f]{8})", re.DOTALL).match(end, max(0, end.rfind(CHECKSUM)))
    if checksum is None:
        return False
    zeroed = end[: checksum.start(1)] + NO_CHECKSUM + end[checksum.end(1) :]
    return checksum.group(1) == b"%08x" % zlib.crc32(zeroed)


def read_parquet(path: Path, columns: Collection[str] | None = None) -> pa.Table | None:
    """Return a file's table, footer and pages verified; of ``columns``, those that it has. None if it is damaged."""
    try:
        with pa.OSFile(str(path)) as source:  # a few columns need not read the rest
            return _read(source, columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the file
        return None


def _read(source: pa.NativeFile, columns: Collection[str] | None) -> pa.Table:
    if not _footer_is_sound(source):
        raise pa.ArrowInvalid("the footer's checksum fails")
    file = pq.ParquetFile(source, page_checksum_verification=True)
    names = file.schema_arrow.names
    return file.read(columns=None if columns is None else [name for name in names if name in columns])


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables under one another; a column that some lack is missing there, one of two types is the wider."""
    schema = pa.schema(list(widest([table.schema for table in tables]).items()))
    return pa.concat_tables([in_schema(table, schema) for table in tables]) if tables else pa.table({})


def at_least(rows: int, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables of one schema, as many of them under one another as make so many rows."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(table.num_rows for table in some) >= rows:
            yield pa.concat_tables(some)
            some.clear()
    if some:
        yield pa.concat_tables(some)


def in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, in its types; those that it lacks are missing."""
    there = set(table.column_names)
    columns = [
        as_type(table.column(field.name), field.type) if field.name in there else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema) if columns else table.select([]).replace_schema_metadata(None)


def widest(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType]:
    """Return all columns, each with the type that holds what any of the schemas has."""
    types: dict[str, pa.DataType] = {}
    seen: pa.Schema | None = None
    for schema in schemas:
        if seen is None or not schema.equals(seen):
            types |= {field.name: wider(types.get(field.name, field.type), field.type) for field in schema}
        seen = schema
    return types
