"""Numbers, money, years, dates, truths and lists as people write them: recovered where one is meant, else named."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from enrichkit import Answer
from enrichkit.reading.answer import read_answer
from enrichkit.reading.wording import says_nothing


class Firm(Answer):
    """One field of each kind."""

    staff: int | None = None
    founded: int | None = None
    income: float | None = None
    listed: bool | None = None
    since: str | None = None
    goods: list[str] | None = None


STAFF = {
    250: "250| 250 |+250|250.0|0250|~250|~ 250|about 250|approx. 250|ca. 250|around 250|roughly 250|some 250|est. 250|"
    "250 (approx.)|250 staff|250 staffs|٢٥٠|२५०|２５０|**250**|250 [1]|`250`|2.5e2|0.25k|250,0|250,00",
    1_200_000: "1,200,000|1.200.000|1 200 000|1'200'000|1’200’000|1_200_000|1\u00a0200\u00a0000|1\u202f200\u202f000|"
    "12,00,000|1.200.000,00|1,200,000.00|1.2M|1.2 M|1,2 Mio.|1.2 million|1200k|12 lakh|1.2 mn|1,200 thousand|"
    "١٬٢٠٠٬٠٠٠|1&nbsp;200&nbsp;000",
    None: "4.750|1.000|1/2|½|1 1/2|2.5|10-20|10–20|10 to 20|10, 20|10 or 20|10 and 20|1;2|1:2|>50|≥50|<50|50+|over 50|"
    "up to 50|at least 50|nearly 50|twelve|zwölf|a dozen|2 dozen|half a million|several|12%|12 percent|12 people|#5|"
    "5th|IV|5 (five)|five (5)|12 (2023)|12 in 2023|12.03.2024|2024-03-12|03/2021|Q3 2021|March 2021|-|NaN|Infinity|"
    "inf|∞|1e400|1e99|1e-3|0x10|0b1|True|true|ja|yes|1,2,3|1.2.3|1 2 3|1 20|--5|(5)|5²|10^6|3 × 10⁵|5 m|5mm|5 b|2 t|"
    "2 cr|1.200 staff|0,12|9223372036854775808|99999999999999999999|12-staff|c12|none|null|n/a",
}  # fmt: skip
FOUNDED = {
    1899: "1899|c. 1899|ca. 1899|circa 1899|about 1899|1899 (est.)|founded 1899|1899.0|１８９９",
    None: "1890s|1899/1900|1899-1900|1899?|19th century|'99|FY1899|1 January 1899|01.01.1899|1899-01-01|500 BC|"
    "between 1899 and 1901|MDCCCXCIX|unknown|n.d.",
}  # fmt: skip
INCOME = {
    2.5e6: "2,5 Mio. €|€2.5m|2.5 m€|EUR 2.5 mn|2.5 MM USD|$2.5 million|2.5 million dollars|~$2.5m|c. $2.5m|US$ 2.5m|"
    "2,500,000|2.500.000|2 500 000 kr|CHF 2'500'000.00|$2,500,000.00|2.500.000,00 €|₹25 lakh|€2500k|2500 tsd. €|"
    "R$ 2,5 milhões|about £2.5 m|2.5e6",
    2e9: "2 bn|2bn|$2B|2 billion|2 Mrd. €|2 Milliarden Euro|2 mld euro|2 milliards|USD 2 b|€ 2 bn|₹200 crore|0.002 tn",
    0.125: "0.125|0,125",
    -5.0: "-5|−5|$-5|-5.0|-5,0",
    None: "1.234|USD 3.000|$5-10|$5m-$10m|$5 to 10 million|5 to 6 million|>$5m|$5m+|up to $5m|over 5 bn|12%|5 m|2.5.6|"
    "50 cents|5 kUSD|($5)|1e400|-1e400|Infinity|-inf|∞|NaN|0x10|True|USD|$|$5 per year|Q3 2021|12.03.2024|5億円|"
    "5 TEUR|$5 million (2023)|1/2|3½",
}  # fmt: skip
LISTED = {
    True: "true|True|TRUE|yes|Yes.|YES!|ja|oui|sí|sim|tak|da|y|1|**yes**",
    False: "false|False|no|No.|nein|non|não|nee|nie|nej|n|0",
    None: "maybe|2|1.0|on|yes, since 2010|no longer|not sure|listed|是|✓|unknown|-",
}  # fmt: skip
SPELLINGS = {"staff": STAFF, "founded": FOUNDED, "income": INCOME, "listed": LISTED}
DATES = "2021-03-04|04.03.2021|03/04/2021|4 March 2021|March 2021|Q3 2021|H1 2021|FY2021|2019–2021|c. 1999|spring 2007"
LISTS = {
    "fish; salt": "fish; salt|fish;salt;|fish\nsalt|- fish\n- salt|* fish\n* salt|1. fish\n2. salt|• fish • salt|"
    'fish · salt|["fish", "salt"]',
    "fish, salt": "fish, salt|fish,salt|fish、salt|['fish', 'salt']|[fish, salt]",
    "fish (dried, salted); 1,200 t of salt; Kelp, Ltd.": "fish (dried, salted), 1,200 t of salt, Kelp, Ltd.|"
    "fish (dried, salted); 1,200 t of salt; Kelp, Ltd.",
    "R&D": "R&D",
    "Kelp, Inc.": "Kelp, Inc.",
}  # fmt: skip


def read(field: str, value: Any) -> tuple[Any, list[str]]:
    """Return a field's value as it is read, and what was done."""
    answer, issues = read_answer(Firm, json.dumps({field: value}))
    return getattr(answer, field), [issue.check for issue in issues if issue.field.startswith(field)]


@pytest.mark.parametrize("field", SPELLINGS)
def test_a_spelling_is_recovered_or_named(field: str) -> None:
    """266 spellings: none is read as another value; only digits, thousands commas and plain truths come in silence."""
    for value, texts in SPELLINGS[field].items():
        for text in texts.split("|"):
            got, checks = read(field, text)
            assert (got, type(got)) == (value, type(value)), text
            plain = r"\s*[+-]?(\d+|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?\s*|(?i:true|false|yes|no)[.!]?"
            silent = says_nothing(text) if value is None else re.fullmatch(plain, text, re.ASCII) is not None
            if (field, text) not in {("listed", "1"), ("listed", "0")}:
                assert silent != bool(checks), (text, checks)


def test_dates_in_a_text_stay_as_they_are_written() -> None:
    """Which of day and month comes first is not the reader's to say."""
    for text in DATES.split("|"):
        assert read("since", text) == (text, [])
        assert text == "c. 1999" or read("founded", text) == (None, ["wrong_type"])


def test_a_list_in_one_text_is_split_where_its_items_end() -> None:
    """At semicolons, lines and bullets; at commas with a note, but never within a number, a name or brackets."""
    for items, texts in LISTS.items():
        for text in texts.split("|"):
            got, checks = read("goods", text)
            assert got == re.split("[;,] (?=[a-z1])" if items == "fish, salt" else "; ", items), text
            assert bool(checks) == (items == "fish, salt" or ("salted), " in text)), text
