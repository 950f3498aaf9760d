"""Tables in files: what no run touches comes back as it was, and nothing that a model wrote is taken for a formula."""

from __future__ import annotations

import csv
import json
import zipfile
from datetime import datetime
from decimal import Decimal

import numpy as np
import openpyxl
import pandas as pd
import pytest

import enrichkit
from enrichkit import errors
from enrichkit.reporting.tablefiles import read_sheet, write_sheet

NASTY = [
    ["name", "", "=head", "Zoë, Øst"],
    ["accents", "Kjærholt Ünïcode", "e\u0301", "日本語 😀"],
    ["zeros", "007", "1.0", "1e5"],
    ["long", "12345678901234567890123", "0.1234567890123456789", "-0"],
    ["empty", "", " ", "NA"],
    ["words", "null", "NaN", "None"],
    ["breaks", "line\nbreak", "line\r\nbreak", "lone\rreturn"],
    ["quotes", 'a "quoted" cell', '"', "a,b;c\td"],
    ["formulas", "=1+1", "+49 30", "@x"],
    ["control", "\x1b[2J", "\x7f", "\u200b\u202e"],
    ["dates", "2024-01-02", "True", "1,5"],
]


@pytest.fixture
def nasty(tmp_path):
    """A CSV of nasty cells, as another program wrote it."""
    path = tmp_path / "nasty.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(NASTY)
    return path


@pytest.fixture
def written(monkeypatch):
    """A table as `run` returns it, with what a hostile model may write."""
    frame = pd.DataFrame(
        {
            "name": ["a", "b"],
            "own": ["=own", "-1"],
            "fund.site": ["+1", "=HYPERLINK(1)"],
            "fund.list": [["=x", "y"], None],
        }
    )
    frame.attrs["enrichkit"] = {"key": ["name"], "written": ["fund.site", "fund.list"]}
    return frame


def cells(path):
    return [list(row) for row in pd.read_csv(path, header=None, dtype=str, keep_default_na=False).to_numpy()]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_cells_come_back_as_they_were(suffix, nasty, tmp_path):
    """Letter for letter, header included, through every format of text."""
    frame = read_sheet(nasty)
    write_sheet(frame, tmp_path / f"copy{suffix}")
    back = read_sheet(tmp_path / f"copy{suffix}")
    assert [list(back.columns), *back.to_numpy().tolist()] == NASTY


def test_excel_keeps_text_as_text(nasty, tmp_path):
    """Leading zeros stay, a formula stays text; what no Excel file can hold is replaced."""
    write_sheet(read_sheet(nasty), tmp_path / "copy.xlsx")
    back = read_sheet(tmp_path / "copy.xlsx")
    assert back["Zoë, Øst"].tolist()[0] == "日本語 😀"
    assert back.iloc[:, 1].tolist()[1:3] == ["007", "12345678901234567890123"]
    assert back.iloc[7].tolist()[1:] == ["=1+1", "+49 30", "@x"]
    kinds = {cell.data_type for row in openpyxl.load_workbook(tmp_path / "copy.xlsx").active for cell in row}
    assert "f" not in kinds


def test_numbers_of_json_lines_and_parquet_stay_what_they_are(tmp_path):
    """A whole number beside a missing one stays whole, however long; lists stay lists."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 12345678901234567890, "n": 1, "tags": ["a"]}\n{"id": 7, "x": 0.1234567890123}\n')
    write_sheet(read_sheet(path), tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0] == {"id": 12345678901234567890, "n": 1, "tags": ["a"], "x": None}
    assert rows[1]["x"] == 0.1234567890123
    pd.DataFrame({"n": pd.array([2**64 - 1, None], "UInt64")}).to_parquet(tmp_path / "wide.parquet")
    write_sheet(read_sheet(tmp_path / "wide.parquet"), tmp_path / "wide_out.parquet")
    assert read_sheet(tmp_path / "wide_out.parquet")["n"].tolist()[0] == 2**64 - 1
    pd.DataFrame({"n": pd.array([2**60 + 1, None], "Int64")}).to_parquet(tmp_path / "in.parquet")
    write_sheet(read_sheet(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet", dtype_backend="numpy_nullable")["n"].tolist()[0] == 2**60 + 1


def test_a_model_writes_no_formulas_by_default(written, tmp_path):
    """In its columns only, headers included; lists are joined, or JSON; "raw" leaves everything."""
    enrichkit.export(written, tmp_path / "a.csv")
    assert cells(tmp_path / "a.csv")[1:] == [["a", "=own", "'+1", "'=x, y"], ["b", "-1", "'=HYPERLINK(1)", ""]]
    enrichkit.export(written, tmp_path / "b.csv", formulas="raw", lists="json")
    assert cells(tmp_path / "b.csv")[1] == ["a", "=own", "+1", '["=x", "y"]']
    enrichkit.export(written, tmp_path / "c.xlsx")
    assert read_sheet(tmp_path / "c.xlsx")["fund.site"].tolist() == ["'+1", "'=HYPERLINK(1)"]
    enrichkit.export(written, tmp_path / "d.parquet")
    assert pd.read_parquet(tmp_path / "d.parquet")["fund.site"].tolist() == ["+1", "=HYPERLINK(1)"]
    enrichkit.export(written, tmp_path / "e.csv", only_new=True)
    assert cells(tmp_path / "e.csv")[0] == ["name", "fund.site", "fund.list"]


def test_the_users_own_cells_stay_theirs_in_a_column_with_filled_gaps(written, tmp_path):
    """What stood there before the run is no model's."""
    enrichkit.export(written, tmp_path / "a.csv", original=written[["name"]].assign(**{"fund.site": ["+1", ""]}))
    assert [row[2] for row in cells(tmp_path / "a.csv")[1:]] == ["+1", "'=HYPERLINK(1)"]


def test_a_table_of_unknown_origin_is_safe_everywhere(tmp_path):
    """Nobody knows who wrote what; and which columns are new cannot be told."""
    frame = pd.DataFrame({"=x": [" =1", "\t1", "a=b", "\ufeff=1", "\x00@x", "\u200b+1", ";=1", "a;-2\r\n=3", "a; - b"]})
    enrichkit.export(frame, tmp_path / "a.csv")
    found = [cell for (cell,) in cells(tmp_path / "a.csv")]
    assert found[:7] == ["'=x", "' =1", "'\t1", "a=b", "'\ufeff=1", "'\x00@x", "'\u200b+1"]
    assert found[7:] == [";'=1", "a;'-2\r\n'=3", "a; - b"]  # in some countries a semicolon ends a cell
    with pytest.raises(errors.InputError, match="not known which"):
        enrichkit.export(frame, tmp_path / "b.csv", only_new=True)


def test_a_store_is_exported_as_read_returns_it(tmp_path):
    """All that is known but the raw replies; only-new leaves the user's other columns out."""
    df = pd.DataFrame({"fund.title": ["Borealis"], "seen": ["=1"], "fund.city": ["Oslo"]})
    enrichkit.run(df, model="simulator", stages=["fund"], out=tmp_path / "s", progress=False)
    enrichkit.export(tmp_path / "s", tmp_path / "a.csv")
    header, row = cells(tmp_path / "a.csv")
    found = dict(zip(header, row, strict=True))
    assert (found["seen"], found["fund._status"]) == ("=1", "done")
    assert not [name for name in header if name.endswith("_replies")]
    enrichkit.export(enrichkit.read(tmp_path / "s"), tmp_path / "b.csv", only_new=True)
    assert {"fund.title", "fund.city", "fund._sources"} <= set(cells(tmp_path / "b.csv")[0])
    assert "seen" not in cells(tmp_path / "b.csv")[0]
    with pytest.raises(errors.StoreError, match="There is no store"):
        enrichkit.export(tmp_path / "nothing", tmp_path / "c.csv")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_store_is_written_piece_by_piece_as_one_table(suffix, tmp_path, monkeypatch):
    """Shards of other columns, or of other types, make no other file than the whole table that `read` returns."""
    monkeypatch.setattr("enrichkit.store.reader.ROWS_AT_ONCE", 2)
    given = {
        "model": "simulator",
        "key": "fund.title",
        "out": tmp_path / "s",
        "shard_rows": 1,
        "progress": False,
        "workers": 1,
    }
    first = pd.DataFrame({"fund.title": [f"Fund {number}" for number in range(3)], "size": [1, 2, None]})
    enrichkit.run(first, stages=["fund"], **given)
    more = pd.DataFrame({"fund.title": ["Fund 3", "Fund 4"], "size": [0.5, 1.5], "seen": ["a\rb", "a,b"]})
    enrichkit.run(more, stages=["fund"], **given)
    whole = enrichkit.read(tmp_path / "s")
    assert sorted(whole["size"].tolist()[3:]) == [0.5, 1.5]
    enrichkit.export(tmp_path / "s", tmp_path / f"store{suffix}")
    enrichkit.export(whole, tmp_path / f"frame{suffix}")
    if suffix == ".parquet":  # the store knows the types of columns that hold nothing; a frame does not
        back = read_sheet(tmp_path / "store.parquet")
        pd.testing.assert_frame_equal(back, whole)
    else:
        assert (tmp_path / f"store{suffix}").read_bytes() == (tmp_path / f"frame{suffix}").read_bytes()


def test_a_lone_carriage_return_ends_no_line(tmp_path):
    """It is quoted, and lines end as they always do."""
    enrichkit.export(pd.DataFrame({"a": ["x\ry", "z"], "b": [1, 2]}), tmp_path / "a.csv", formulas="raw")
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\n"x\ry",1\nz,2\n'


def test_an_excel_file_has_as_many_rows_as_excel_takes(tmp_path):
    """More are refused before any is written."""
    with pytest.raises(errors.InputError, match="holds 1,048,575 rows, not 1,048,576"):
        write_sheet(pd.DataFrame({"a": np.zeros(2**20)}), tmp_path / "a.xlsx")
    assert not list(tmp_path.iterdir())


def test_lists_as_pandas_reads_them_from_parquet_are_lists(tmp_path):
    """Arrays, tuples, sets and bytes are written as lists and text, each element of them."""
    many = np.arange(1500)
    kinds = {"array": np.array(["x", "y"]), "tuple": (1, 2), "set": {3}, "bytes": b"ab", "many": many}
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in kinds.items()})
    frame["objects"] = pd.Series([np.array([{"a": 1}], dtype=object)], dtype=object)
    everyone = ", ".join(map(str, many))
    enrichkit.export(frame, tmp_path / "a.csv")
    assert cells(tmp_path / "a.csv")[1] == ["x, y", "1, 2", "3", "6162", everyone, '[{"a": 1}]']
    enrichkit.export(frame, tmp_path / "b.csv", lists="json")
    assert cells(tmp_path / "b.csv")[1][0] == '["x", "y"]'
    enrichkit.export(frame[["array", "tuple", "objects"]].assign(one=[np.array([5])]), tmp_path / "c.jsonl")
    found = json.loads((tmp_path / "c.jsonl").read_text())
    assert found == {"array": ["x", "y"], "tuple": [1, 2], "objects": [{"a": 1}], "one": [5]}


def test_a_decimal_keeps_its_digits_in_every_kind_of_text(tmp_path):
    """What ends in a zero, or is very large: CSV, JSON lines and Excel say the same."""
    frame = pd.DataFrame({"price": [Decimal("1.10"), None, Decimal("1E+2")]})
    for suffix in (".csv", ".jsonl", ".xlsx"):
        enrichkit.export(frame, tmp_path / f"a{suffix}")
        assert read_sheet(tmp_path / f"a{suffix}")["price"].fillna("").tolist() == ["1.10", "", "1E+2"]


def test_a_letter_that_is_none_is_replaced_everywhere(tmp_path):
    """A lone surrogate ends no export."""
    frame = pd.DataFrame({"a": pd.Series(["x\ud800"], dtype=object)})
    for suffix in (".csv", ".xlsx", ".jsonl", ".parquet"):
        write_sheet(frame, tmp_path / f"a{suffix}")
        assert read_sheet(tmp_path / f"a{suffix}")["a"].tolist() == ["x?"]


def test_what_excel_cannot_hold_is_told(tmp_path):
    """A cell that is cut, a number that would lose digits."""
    frame = pd.DataFrame({"id": [12345678901234567, 5], "text": ["short", "x" * 40_000]})
    with pytest.warns(UserWarning, match="^text is cut to 32,767 characters in row 2"):
        write_sheet(frame, tmp_path / "a.xlsx")
    assert read_sheet(tmp_path / "a.xlsx")["id"].tolist() == ["12345678901234567", "5"]


def test_no_file_is_written_into_a_store(tmp_path):
    """It would be read as one of its shards."""
    df = pd.DataFrame({"fund.title": ["Borealis"]})
    enrichkit.run(df, model="simulator", stages=["fund"], out=tmp_path / "s", progress=False)
    for place in (tmp_path / "s", tmp_path / "s.work"):
        with pytest.raises(errors.InputError, match="is, or lies in, the store's folder"):
            enrichkit.export(tmp_path / "s", place / "x.parquet")


def test_a_file_may_have_as_long_a_name_as_there_is(tmp_path):
    """The file that takes its place has a shorter one."""
    path = tmp_path / f"{'x' * 251}.csv"
    write_sheet(pd.DataFrame({"a": ["1"]}), path)
    assert read_sheet(path)["a"].tolist() == ["1"]


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """What fails half way leaves the old file and no other."""
    path = tmp_path / "a.csv"
    path.write_text("old")

    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_sheet(pd.DataFrame({"a": ["1"]}), path)
    assert [left.name for left in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_text() == "old"


def test_a_link_stays_a_link(tmp_path):
    """What it leads to is replaced."""
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    write_sheet(pd.DataFrame({"a": ["1"]}), tmp_path / "b.csv")
    assert (tmp_path / "b.csv").is_symlink()
    assert read_sheet(tmp_path / "a.csv")["a"].tolist() == ["1"]


def test_blank_lines_are_no_rows(tmp_path):
    """Wherever they stand, and however many columns there are."""
    path = tmp_path / "a.csv"
    for text, told in (("\n\nname\na\n\n \nb\n\n", [["a"], ["b"]]), ("a,b\n\n1,2\n\n", [["1", "2"]])):
        path.write_text(text, "utf-8")
        assert read_sheet(path).to_numpy().tolist() == told


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table_may_be_separated_by_semicolons_or_tabs(sign, tmp_path):
    """As its header is: Excel writes semicolons where a comma is part of a number."""
    path = tmp_path / "a.csv"
    path.write_text(sign.join(["name", "share"]) + "\n" + sign.join(["Kelp & Osk", '"3,5; half"']) + "\n", "utf-8-sig")
    assert read_sheet(path).to_dict("list") == {"name": ["Kelp & Osk"], "share": ["3,5; half"]}


@pytest.fixture
def workbook(tmp_path):
    """An Excel file as a program that computes nothing saves it."""
    book = openpyxl.Workbook()
    rows = [[], ["name", 2024], ["a", datetime(2024, 1, 2)], [], ["b", datetime(2024, 1, 2, 3, 4)], [7.0, "#N/A"]]
    for row in rows:
        book.active.append(row)
    book.active["A9"].number_format = book.active["F1"].number_format = "0.00"
    book.create_sheet("Other")
    yield book
    book.close()


def test_excel_is_read_as_it_looks(workbook, tmp_path):
    """A date without a time is a date; empty rows stay, but for those at both ends; other sheets are left out."""
    workbook.save(tmp_path / "a.xlsx")
    frame = read_sheet(tmp_path / "a.xlsx")
    assert list(frame.columns) == ["name", "2024"]
    rows = [["a", "2024-01-02"], ["", ""], ["b", "2024-01-02 03:04:00"], ["7", "#N/A"]]
    assert frame.to_numpy().tolist() == rows


def test_formulas_without_values_are_refused(workbook, tmp_path):
    """They would be read as empty, and be asked about; one that comes to nothing is as good as an empty cell."""
    workbook.active["B3"] = workbook.active["C4"] = "=1+1"
    workbook.save(tmp_path / "a.xlsx")
    with pytest.raises(errors.InputError, match="values were not saved with it: B3 and 1 more"):
        read_sheet(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.xlsx") as old, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as new:
        for name in old.namelist():  # as Excel saves them
            data = old.read(name).replace(b'<c r="B3"', b'<c r="B3" t="str"')
            new.writestr(name, data.replace(b"<f>1+1</f><v />", b"<f>1+1</f><v></v>") if "sheet1" in name else data)
    with pytest.raises(errors.InputError, match="values were not saved with it: C4\\."):
        read_sheet(tmp_path / "b.xlsx")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", "name\nZoë\n".encode("cp1252"), "not UTF-8. Save it as 'CSV UTF-8'"),
        ("a.csv", "name\nZoë\n".encode("utf-16"), "not UTF-8"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"a,b\n1,2,3\n", "Expected 2 fields in line 2, saw 3"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "Line 2 .* is not a JSON object"),
        ("a.jsonl", b'{"a": 1\n', "Line 1 .* is not a JSON object"),
        ("a.parquet", b"nothing", "cannot be read as .parquet"),
        ("a.xlsx", b"nothing", "cannot be read as .xlsx"),
        ("a.pdf", b"nothing", "the suffix '.pdf' is not known.*csv"),
    ],
)
def test_a_file_that_cannot_be_read_gets_one_sentence(name, data, told, tmp_path):
    """It names the file, the line, and what to do."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(errors.InputError, match=told):
        read_sheet(tmp_path / name)
