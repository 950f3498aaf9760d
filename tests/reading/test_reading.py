"""What models really write: each kind of fault is read, or named, and never paid for a second time."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator, model_validator

from enrichkit import Answer
from enrichkit.reading.answer import read_answer
from enrichkit.reading.json_text import locate
from enrichkit.reading.values import number_in
from enrichkit.reading.wording import excuses, says_nothing, undressed


class Yard(BaseModel):
    """A part of a port."""

    name: str | None = None
    berths: int | None = None


class Port(Answer):
    """A port."""

    town: str | None = None
    crew: int | None = None
    income: float | None = Field(None, description="Income in USD")
    open: bool | None = None
    kind: Literal["sea port", "river port", "none"] | None = None
    goods: list[str] | None = None
    owner: Yard | None = None
    yards: list[Yard] | None = None
    website: str | None = None
    type: str | None = None


def read(text: str, model: type[Answer] = Port) -> tuple[dict[str, Any], list[str]]:
    """Return what a text holds, and what was done to read it."""
    answer, issues = read_answer(model, text)
    assert answer is not None, text
    return answer.model_dump(exclude_none=True), [str(issue) for issue in issues]


MARL = {"town": "Marl", "crew": 14}
BROKEN = {
    r"""{"town": "St. Anne\'s Bay", "crew": 14}""": {"town": "St. Anne's Bay", "crew": 14},
    """{"town": "Marl, by the "Long Pier"", "crew": 14,}""": {"town": 'Marl, by the "Long Pier"', "crew": 14},
    '{"town": "Marl", "crew": 14,}': MARL,
    "{'town': 'Marl', 'crew': 14}": MARL,
    '{town: "Marl", crew: 14}': MARL,
    '{"town": "Marl", "crew": 14, "goods": None}': MARL,
    '{"town": "Marl", // the port\n "crew": 14}': MARL,
    '{"town": "Marl", /* the port */ "crew": 14}': MARL,
    '{"town": "Marl" "crew": 14}': MARL,
    '{"town": "Marl"\n "crew": 14}': MARL,
    '{"town": "Marl", "crew": 14': MARL,
    '{"town": "Marl", "goods": ["fish", "salt"]': {"town": "Marl", "goods": ["fish", "salt"]},
    "{“town”: “Marl”, “crew”: 14}": MARL,
    '{"town": "Marl" [cite: 1], "crew": 14}': MARL,
    '{"town": "Marl", "crew": 14 [1]}': MARL,
    '{"town": "Marl", "goods": ["fish", "salt", ...]}': {"town": "Marl", "goods": ["fish", "salt"]},
    '"town": "Marl", "crew": 14}': MARL,
    '"town": "Marl", "crew": 14': MARL,
    '{"town": "Marl",, "crew": 14}': MARL,
    '{"town": "Marl"; "crew": 14}': MARL,
    '```json\n{"town": "Marl", "crew": 14,}\n```': MARL,
    r'{"town": "Marl\x27s", "crew": 14}': {"town": "Marl's", "crew": 14},
    '{"town": "Ma" + "rl", "crew": 14}': MARL,
    '{"town": "Marl", "crew": 14, "open": True}': MARL | {"open": True},
    '{"town": Marl by the sea, "crew": 14}': {"town": "Marl by the sea", "crew": 14},
    '{"town": "Marl", "crew": +14}': MARL,
}


@pytest.mark.parametrize(("text", "values"), BROKEN.items())
def test_small_faults_of_json_are_repaired_and_named(text: str, values: dict[str, Any]) -> None:
    """26 texts that no strict parser reads."""
    got, issues = read(text)
    assert got == values
    assert issues[0].startswith(": json_repaired")


@pytest.mark.parametrize(
    ("words", "value"),
    [("1 200", 1200), ("~250", 250), ("1,200", 1200), ("12%", None), (">50", None), ("10-20", None), ("1.2.3", None)],
)
def test_a_repair_does_not_guess_numbers(words: str, value: int | None) -> None:
    """A bare word is read as the text that it is, or named."""
    got, issues = read(f'{{"town": "Marl", "crew": {words},}}')
    assert got == {"town": "Marl"} | ({} if value is None else {"crew": value})
    assert any(issue.startswith("crew: ") for issue in issues) or value == 1200


@pytest.mark.parametrize(
    "text", ['{"town": "Mar', '{"town"', '{"yards": [{"town": "X"}, "town": "Marl"}]}', '{"crew": ']
)
def test_what_is_cut_off_or_crossed_is_not_read(text: str) -> None:
    """A text without its end may be any; crossed brackets would put the firm's town into its last company."""
    assert read_answer(Port, text)[0] is None


@pytest.mark.parametrize(
    "text",
    [
        '{"port": {"town": "Marl"}}',
        '{"result": {"port": {"town": "Marl"}}}',
        '[{"town": "Marl"}]',
        json.dumps(json.dumps({"town": "Marl"})),
        json.dumps({"answer": json.dumps({"town": "Marl"})}),
        f"```json\n{json.dumps(json.dumps({'town': 'Marl'}))}\n```",
        json.dumps(json.dumps({"town": "Marl"}, indent=1)).strip('"'),
        'Schema: {"type": "object", "properties": {"town": {"type": "string"}}}. Answer: {"town": "Marl"}',
        '{"town": "Marl"} as {"town": {"type": "string"}} wants',
        '{"town": "Marl\nby"}'.replace("\nby", ""),
    ],
)
def test_wrappers_are_opened_and_schemas_are_no_answer(text: str) -> None:
    """Where a field's name stands only there."""
    assert read(text) == ({"town": "Marl"}, [])


def test_one_key_twice() -> None:
    """A value beats none, however it is said; of two values the last stands, and both are named."""
    assert read('{"town": "Marl", "crew": 14, "town": null}') == (MARL, [])
    assert read('{"town": "unknown", "town": "Marl", "crew": 14}') == (MARL, [])
    assert read('{"town": "Osk", "town": "Marl"}') == ({"town": "Marl"}, ["town: said_twice: ['Osk', 'Marl']"])
    assert read('{"owner": {"name": "A", "name": "B"}}')[1] == ["owner.name: said_twice: ['A', 'B']"]


def test_the_smallest_part_goes_and_the_rest_stays() -> None:
    """Named with its path and what stood there, at any depth."""
    assert read('{"yards": [{"name": "Yard 1", "berths": 1}, "Fourth Yard"]}') == (
        {"yards": [{"name": "Yard 1", "berths": 1}]},
        ["yards[1]: wrong_type: 'Fourth Yard'"],
    )
    assert read('{"owner": {"name": "Kelp Oy", "berths": "a few"}}') == (
        {"owner": {"name": "Kelp Oy"}},
        ["owner.berths: wrong_type: 'a few'"],
    )
    assert read('{"yards": [{"name": "Yard 1"}, {"title": "Yard 2"}], "owner": {"Kelp Oy": 3}}') == (
        {"yards": [{"name": "Yard 1"}]},
        ["owner: wrong_type: {'Kelp Oy': 3}", "yards[1]: wrong_type: {'title': 'Yard 2'}"],
    )
    yards = [{"name": f"Yard {number}", "berths": number} for number in range(9)]
    assert read(json.dumps({"yards": [*yards, "x"]}))[0] == {"yards": yards}


NUMBERS = {
    "14": 14, "1,200": 1200, "1 200": 1200, "1'200": 1200, "1.200.000": 1_200_000, "12,34,567": 1_234_567,
    "about 30": 30, "ca. 30": 30, "14 crew": 14, "5k": 5000,
    "1.5 thousand": 1500, "2.0": 2, "4.750": None, "10-20": None, "2.5": None,
    "50+": None, ">50": None, "1990s": None, "two": None, "14 people": None, "5 m": None, "1,2,3": None, "NaN": None,
    "Infinity": None, "2023/24": None, "1 2 3": None, "12 %": None, "10 to 20": None, "": None, "n/a": None,
}  # fmt: skip
AMOUNTS = {
    "EUR 2.5 bn": 2.5e9, "1,2 Mrd €": 1.2e9, "$5m": 5e6, "USD 3 million": 3e6, "€1.2bn": 1.2e9, "1.234,56": 1234.56,
    "1,234.56": 1234.56, "3.5 Mio. CHF": 3.5e6, "kr 500": 500.0, "3 lakh": 3e5, "12,5": 12.5, "-5": -5.0, "1e9": 1e9,
    "approx. USD 40 mn": 4e7, "0.750": 0.75, "4.750": None, "5 to 6 million": None, "12 %": None, "NaN": None,
    "-inf": None, "USD": None, "over 5 bn": None, "5 m": None, "2.5.6": None,
}  # fmt: skip


@pytest.mark.parametrize("field", ["crew", "income"])
def test_numbers_as_people_write_them(field: str) -> None:
    """54 spellings: none is read as another number, each is recovered or named, and nothing but digits is silent."""
    for text, number in (NUMBERS if field == "crew" else AMOUNTS).items():
        got, issues = read(json.dumps({field: text}))
        assert got == ({} if number is None else {field: number}), text
        plain = re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d+)?|-?\d+(\.\d+)?", text) and number is not None
        assert bool(issues) != bool(plain or says_nothing(text)), (text, issues)


@pytest.mark.parametrize("value", ["true", "NaN", "Infinity", str(2**70), "1" * 5000, "[1, 2]", '{"a": 1}', '"x"'])
def test_what_is_no_number_is_none(value: str) -> None:
    """Bare or as a text, and a number of thousands of digits, which Python refuses to read."""
    got, issues = read(f'{{"crew": {value}, "income": {value}}}')
    assert got.keys() <= {"income"}
    assert issues[0].startswith("crew: wrong_type")


def test_lists_choices_and_truths_as_text() -> None:
    """Lists split at semicolons, lines and bullets, at commas with a note; choices without case; yes and no."""
    assert read('{"goods": "fish; salt"}') == ({"goods": ["fish", "salt"]}, [])
    assert read(json.dumps({"goods": "- fish\n- salt"})) == ({"goods": ["fish", "salt"]}, [])
    assert read('{"goods": "fish, salt"}') == ({"goods": ["fish", "salt"]}, ["goods: read_as: 'fish, salt'"])
    assert read('{"goods": "fish", "kind": "Sea Port", "open": "Yes"}') == (
        {"goods": ["fish"], "kind": "sea port", "open": True},
        [],
    )
    assert read('{"goods": ["-", "fish", "n/a"], "kind": "none"}') == ({"goods": ["fish"], "kind": "none"}, [])
    assert read('{"open": "It is open in summer."}')[1] == ["open: wrong_type: 'It is open in summer.'"]


NOTHINGS = (
    "N/A|not found|keine Angabe|-|Unknown.|(not disclosed)|non disponible|no disponible|sconosciuto|não informado|"
    "onbekend|brak danych|ukjent|okänt|I could not find the town of this port.|Not publicly available.|"
    "I'm sorry, but I cannot find reliable information on this.|No public information found.|"
    "Die Adresse ist nicht bekannt.|Aucune information trouvée|No se encontró información|Geen informatie gevonden"
).split("|")
HERE = Path(__file__).parent


def lines_of(name: str) -> list[str]:
    """Return the lines of a file of texts, but for its headings."""
    lines = (HERE / name).read_text("utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("# ")]


NAMES = [name for line in lines_of("names.txt") for name in line.split("|") if name]


def test_words_for_nothing_at_every_depth() -> None:
    """In the languages of the world's directories, and whole sentences of not finding; names that look alike stay."""
    for word in NOTHINGS:
        got, issues = read(json.dumps({"town": word, "owner": {"name": word}, "goods": [word], "crew": word}))
        assert got == {}, word
        assert all(": says_nothing: " in issue for issue in issues), issues
    sentences = ("The town is not disclosed, but likely Marl.", "A family office whose portfolio is not public.")
    for name in (*NAMES, *sentences, "NA", "The company is not listed", "stated", "found", "information"):
        assert not says_nothing(name), name
        assert not excuses(name), name
    assert len(set(NAMES)) == len(NAMES) > 460
    assert read(json.dumps({"goods": NAMES})) == ({"goods": NAMES}, [])


def test_refusals_and_filler_are_nothing_and_named() -> None:
    """Whole sentences in thirteen languages; a word for nothing alone is silent."""
    sentences = lines_of("excuses.txt")
    assert len(sentences) == len(set(sentences)) > 180
    for text in sentences:
        got, issues = read(json.dumps({"town": text, "goods": ["salt", text]}))
        assert got == {"goods": ["salt"]}, text
        silent = says_nothing(text)
        assert issues == ([] if silent else [f"{at}: says_nothing: {text!r}" for at in ("town", "goods[1]")]), text


DRESSED = {
    "entities": (
        {"Marl &amp; Osk": "Marl & Osk", "Marl &amp;amp; Osk": "Marl & Osk", "Caf&eacute; &#39;Osk&#39;": "Café 'Osk'",
         "&quot;Osk&quot; &lt;3": '"Osk" <3', "M&#xFC;nchen&nbsp;Ost": "München\xa0Ost", "&lt;b&gt;": "<b>"},
        ("R&D", "AT&T;", "https://x.example/?a=1&copy=2&lt=3", "B&B; C&A"),
    ),
    "escapes": (
        {r"Caf\u00e9": "Café", r'the \"Pier\"': 'the "Pier"', r"Marl\nand Osk": "Marl\nand Osk", r"a\/b": "a/b",
         r"Marl\tOsk": "Marl\tOsk", r"\u041c\u0430\u0440\u043b": "Марл", r"\ud83d\ude80 Kelp": "🚀 Kelp"},
        (r"C:\new\users", r"\\nas\raw", r"\theta \rho \nabla", r"DOMAIN\user"),
    ),
    "mojibake": (
        {"Ã–rby": "Örby", "MÃ¼nchen": "München", "donâ€™t": "don’t", "ÐœÐ¾Ñ\x81ÐºÐ²Ð°": "Москва",
         "â‚¬5": "€5", "SÃ£o Paulo": "São Paulo", "â€œOskâ€\x9d": "“Osk”"},
        ("SÃO PAULO", "IRMÃ “Dulce”", "VOILÀ – c’est tout", "Âge d’or"),
    ),
    "invisible": (
        {"zero\u200bwidth": "zerowidth", "\u202eOslo\u202c": "Oslo", "\ufeffOslo": "Oslo", "Os\u00adlo": "Oslo",
         "Os\u200dlo": "Oslo", "Oslo\u200e": "Oslo", "Os\x00lo": "Oslo", "\u2066Oslo\u2069": "Oslo"},
        ("نمی\u200cدانم", "👩\u200d👩\u200d👧", "क\u094d\u200dष", "\u200fשלום\u200f"),
    ),
    "full width": (
        {"Ａｃｍｅ": "Acme", "ＡＣＭＥ　Ｌｔｄ": "ACME Ltd", "１２３": "123", "Ｏｓｌｏ！": "Oslo!", "Ａ＆Ｂ": "A&B"},
        ("株式会社ＡＢＣ", "北京（中国）", "你好，世界！", "서울（한국）", "m²", "①"),
    ),
    "citations": (
        {"Oslo [1]": "Oslo", "Oslo [cite: 2]": "Oslo", "Oslo【3†source】": "Oslo", "Oslo [2, 3].": "Oslo.",
         "Oslo [1][2]": "Oslo", "[cite_start]Oslo [cite: 1, 4]": "Oslo", "Oslo [source: 7]": "Oslo",
         "(Osk) [1]": "(Osk)", "Oslo [^1][^2]": "Oslo", "Oslo \ue200cite\ue202turn0search0\ue201": "Oslo",
         "Oslo ([x.example](https://x.example/?utm_source=openai))": "Oslo"},
        ("[1984] a novel", "Array[3] of int", "R&D [beta]", "f(x) ([a](b))",
         "Blade [Director's Cut]", "x ∈ [0, 1]", "【公告】年度报告"),
    ),
    "Markdown": (
        {"**Oslo**": "Oslo", "`Oslo`": "Oslo", "# Oslo": "Oslo", "*Oslo* [2, 3]": "Oslo", "~~Oslo~~": "Oslo",
         "***Oslo***": "Oslo", "```Oslo```": "Oslo", "**_x_ Oslo**": "_x_ Oslo"},
        ("__init__", "*a* and *b*", "5 * 3 * 2", "#1 in Oslo", "snow*flake", "F# minor", "a_b_c", "C#"),
    ),
    "links": (
        {"[Acme](https://acme.example)": "Acme", "[Acme](<https://acme.example>)": "Acme", "![Acme](a.png)": "Acme",
         '[Acme](https://acme.example "Home")': "Acme", "<https://acme.example>": "https://acme.example",
         "[Acme](https://x.example/a_(b))": "Acme"},
        ("Read [more](https://acme.example) here", "f(x)[y](z", "[REC] 2", "<Acme>"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DRESSED)
def test_a_texts_dress_is_taken_off_and_named(kind: str) -> None:
    """Each kind, with one issue that holds the original; what only looks like it stays as it is."""
    dressed, plain = DRESSED[kind]
    assert len(dressed) >= 5
    for text, clean in dressed.items():
        assert read(json.dumps({"town": text})) == ({"town": clean}, [f"town: undressed: {text!r}"]), text
    for text in plain:
        assert read(json.dumps({"town": text})) == ({"town": text}, [])


def test_a_links_address_is_for_a_field_that_wants_one() -> None:
    """Its words for every other."""
    assert read('{"website": "[Acme](https://acme.example)"}')[0] == {"website": "https://acme.example"}


SCRIPTS = (
    "LATIN GREEK CYRILLIC ARMENIAN GEORGIAN HEBREW ARABIC DEVANAGARI BENGALI TAMIL TELUGU MALAYALAM THAI CJK HIRAGANA "
    "KATAKANA HANGUL ETHIOPIC KHMER SINHALA"
).split()


def test_innocent_texts_of_many_scripts_stay_as_they_are() -> None:
    """Names, sentences, codes, paths, formulas, joiners and full-width signs: none of 592 is changed or named."""
    texts = lines_of("innocent.txt")
    assert len(set(texts)) == len(texts) == 592
    assert read(json.dumps({"goods": texts})) == ({"goods": texts}, [])
    letters = " ".join(unicodedata.name(letter, "") for letter in set("".join(texts)))
    assert all(script in letters for script in SCRIPTS)


class Judged(Answer):
    """A model with validators of its own."""

    town: str | None = None
    crew: int | None = Field(None, le=99)

    @field_validator("town")
    @classmethod
    def capital(cls, value: str | None) -> str | None:
        """Want a capital."""
        if value == "zero":
            return str(1 // 0)
        if value and not value[0].isupper():
            raise ValueError("begin with a capital")
        return value

    @model_validator(mode="after")
    def not_osk(self) -> Judged:
        """Refuse a town."""
        if self.town == "Osk":
            raise ValueError("Osk has no port")
        return self


def test_a_users_validators_flag_and_a_fault_of_theirs_is_told() -> None:
    """What they refuse is emptied with their words; of the whole answer its fields stay."""
    got, issues = read('{"town": "marl", "crew": 300}', Judged)
    assert got == {}
    assert "begin with a capital: 'marl'" in issues[0]
    assert "less than or equal to 99: 300" in issues[1]
    got, issues = read('{"town": "Osk", "crew": 3}', Judged)
    assert got == {"town": "Osk", "crew": 3}
    assert "Osk has no port" in issues[0]


class Stubborn(Answer):
    """A model that refuses its own default, and a list."""

    town: str | None = Field(None, validate_default=True, min_length=1)
    goods: list[str] | None = None

    @field_validator("goods")
    @classmethod
    def no_salt(cls, value: list[str] | None) -> list[str] | None:
        """Refuse a list."""
        if value and "salt" in value:
            raise ValueError("no salt")
        return value


def test_a_default_is_no_finding_and_is_not_judged() -> None:
    """What is not there is not found, whatever the class says of its default."""
    assert read('{"crew": 3, "goods": ["fish"]}', Stubborn) == ({"goods": ["fish"]}, [])
    got, issues = read('{"town": "Marl", "goods": ["salt"]}', Stubborn)
    assert got == {"town": "Marl"}
    assert issues[0].startswith("goods: not_valid: Value error, no salt")


def test_a_validator_that_raises_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """The reply is not to blame: once a traceback, and class and line of what was raised."""
    for _ in range(3):
        answer, issues = read_answer(Judged, '{"town": "zero"}')
        assert answer is None
        [issue] = map(str, issues)
        assert issue.startswith(": own_code: Judged: ZeroDivisionError: integer division or modulo by zero (test_")
        assert re.search(r"line \d+\)$", issue)
    assert caplog.text.count("ZeroDivisionError") == 1


HOSTILE = {
    "braces": "{" * 1_000_000, "names": '{"a' * 333_333, "lists": "[{" * 500_000, "nested": '{"a":' * 200_000,
    "quotes": '"' * 1_000_000, "backslashes": "\\" * 1_000_000, "objects": "{}" * 500_000,
    "faults": '{"a":1 2} ' * 100_000,
    "escapes": '{"town": "' + '\\"' * 400_000, "brackets": '{"b":' + "[" * 100_000 + "]" * 100_000 + "}",
    "long": '{"town":"' + "x" * 1_000_000, "digits": '{"crew": ' + "1" * 1_000_000 + "}",
    "markdown": json.dumps({"town": "*" * 500_000}), "links": json.dumps({"town": "[" * 300_000}),
    "entities": json.dumps({"town": "&" * 900_000}), "nots": json.dumps({"town": "not " * 200_000}),
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_megabyte_is_read_in_no_time(text: str) -> None:
    """No pattern is quadratic. The bound is far above what it takes, and far below what a quadratic one would."""
    start = time.process_time()
    read_answer(Port, text)
    assert time.process_time() - start < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["town", "crew", "name"]), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_no_answer_raises(value: Any) -> None:
    """Whatever stands in it; and what is read is what the types say."""
    answer, issues = read_answer(Port, json.dumps({"town": value, "crew": value, "yards": value, "goods": value}))
    assert answer is not None
    Port.model_validate(answer.model_dump())
    assert all(issue.check for issue in issues)


def test_small_functions() -> None:
    """The doors that others use."""
    assert locate("none").values is None
    assert number_in("EUR 2.5 bn", "") == 2_500_000_000
    assert undressed("plain") == "plain"
