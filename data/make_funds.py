"""Make data/funds.csv: 544 contacts at about 300 funds, all of them invented.

Nothing comes from outside: the words below and one seed give the same file, byte for byte, in every Python.
"""

import csv
import random
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Row = dict[str, str]


def words(text: str) -> list[str]:
    """Return what stands between the bars."""
    return text.split("|")


POC = words("poc.first_name|poc.last_name|poc.role|poc.email|poc.linkedin|poc.phone")
FUND = words("fund.title|fund.type|fund.email|fund.website|fund.country|fund.city|fund.sectors|fund.linkedin")
COLUMNS = [*POC, *FUND, "fund.crunchbase", "fund.phone", "fund.preferred_stage"]
KEY = ["poc.first_name", "poc.last_name", "fund.title"]

# fmt: off
SIZES = {30: 1, 6: 10, 5: 10, 4: 18, 3: 22, 2: 26, 1: 214}  # rows of a fund: number of such funds
NOBODY, MISPLACED = 54, 71  # rows without a person; rows with a value in the wrong column
SHOWN = dict.fromkeys(KEY, 1.0) | {"poc.role": 0.5, "poc.email": 0.5, "poc.linkedin": 0.17, "poc.phone": 0.12}
KNOWN = {  # share of the funds of which it is known at all; of their rows, KEPT then say so
    "fund.type": 0.95, "fund.email": 0.32, "fund.website": 0.36, "fund.country": 1.0, "fund.city": 0.68,
    "fund.sectors": 0.23, "fund.linkedin": 0.18, "fund.crunchbase": 0.12, "fund.phone": 0.2,
    "fund.preferred_stage": 0.11,
}
KEPT = 0.88

HEADS = words("Aldr|Brenz|Çelt|Corv|Dravn|Elsm|Fjörn|Galv|Hesk|Ivarn|Jorv|Kelm|Lomb|Mirv|Nevr|Osk|Pellv|Quen|Rynd|Sevr|"
              "Tavr|Ulv|Velm|Wexl|Ysm|Zimr|Åskv|Żelm|Étiv|Šumr")
TAILS = words("imere|undra|elquist|ombry|erath|yssen|avonne|orwick|iskeld|untara|agarde|ostelle|ilvane|enthorpe|urien|"
              "alooth|ébrac|owmere|ørvik|antheia")
FORMS = {  # kind of fund: how its type is written, how its title is made
    "VC": ("VC|Venture Capital|venture capital",
           "{} Ventures|{} Ventures|{} Capital|{} Capital|{} Seed Partners|{} & {} Ventures|{} Innovation Fund"),
    "PE": ("PE|Private equity|Growth equity",
           "{} Growth Llc|{} Capital, Inc.|{}, {} & Co|{} Equity Partners|{} Holdings Llc|{} Beteiligungen|Groupe {}"),
    "Angels": ("Angel network|Angels", '{} Angels|"{}" Venture Club'),
    "Family": ("Family office|Single Family Office", "{} Family Office|{} & Daughters|Inversiones {}"),
}
PLACES = {  # how a country is spelled; its cities
    "US": ("usa|US|United States|U.S.A.|United States of America",
           "New York|San Francisco|Boston|Austin|New York; Boston|San Francisco, Los Angeles"),
    "GB": ("UK|United Kingdom|U.K.|Great Britain|uk", "London|London; New York|Edinburgh|Manchester|London, Leeds"),
    "DE": ("Germany|Deutschland|DE|germany", "Berlin|München|Berlin / Hamburg|Köln"),
    "FR": ("France|FR|france", "Paris|Paris, Lyon|Nîmes|Orléans; Paris"),
    "CH": ("Switzerland|Schweiz|Suisse|CH", "Zürich|Genève|Zürich & Genève"),
    "SE": ("Sweden|Sverige|SE", "Stockholm|Malmö|Göteborg; Stockholm"),
    "ES": ("Spain|España|ES", "Madrid|A Coruña|Madrid, Barcelona"), "PL": ("Poland|Polska|PL", "Kraków|Warszawa; Łódź"),
    "BR": ("Brazil|Brasil|BR", "São Paulo|São Paulo; Miami"), "TR": ("Turkey|Türkiye|TR", "İstanbul|İzmir"),
    "CA": ("Canada|CA|canada", "Montréal|Toronto; Montréal"), "GR": ("Greece|Ελλάδα|GR", "Athens|Αθήνα"),
    "UA": ("Ukraine|Україна|UA", "Kyiv|Львів"), "CN": ("China|中国|PRC", "Shanghai|上海; 北京"),
    "AE": ("UAE|United Arab Emirates|U.A.E.", "Dubai|Dubai, Abu Dhabi|دبي"),
    "IL": ("Israel|ישראל|IL", "Tel Aviv|תל אביב"), "KR": ("South Korea|Korea|대한민국", "Seoul|서울"),
    "JP": ("Japan|日本|JP", "Tokyo|東京"), "IN": ("India|भारत|IN", "Bengaluru|Mumbai; Delhi"),
}
USUAL = words("US|US|US|US|US|US|GB|GB|GB|GB|DE|DE|FR|FR|CH|SE|ES|PL|BR|TR|CA")  # where the funds with Latin titles are
PHONES = {  # only numbers that are kept free for fiction
    "US": "+1 212 555 01##", "CA": "+1 (416) 555-01##", "GB": "+44 20 7946 0###", "DE": "+49 30 23125 ###",
    "FR": "+33 1 99 00 ## ##", "SE": "+46 70 174 06 5#",
}
SECTORS = words("Fintech|SaaS, AI|healthcare|Climate tech; Energy|B2B software|Biotech, Healthtech|consumer & retail")
STAGES = words("Seed|Pre-seed, Seed|Series A|Seed to Series B|Growth|Buyout")
ROLES = words("Partner|General Partner|Managing Director|Principal|Associate|Investment Manager|Founder & CEO|Analyst|"
              "Partner, Head of Growth|Directeur général|Geschäftsführerin|CFO")
FIRST = ("Ana|José|Łucja|Björn|Zoë|Priya|Tomás|Ingrid|Aïcha|Anne-Marie|Åsa|Beatriz|Çağla|Clémence|Daniela|Éloïse|Emre|"
         "Fergus|François|Giulia|Gökhan|Hanneke|Håkon|Harriet|Ines|Jakub|Jürgen|Katarína|Kofi|Léa|Liam|Māra|Marisol|"
         "Mateusz|Mirela|Nadia|Niamh|Noémie|Oskar|Paweł|Renée|Rosalind|Sofía|Søren|Siân|Thandiwe|Tiago|Ülo|Violeta|"
         "Wanjiru|Yusuf|Željko|Desmond|Priscilla|Walter|Louise|Caleb")
LAST = ("Núñez|Kowalczyk|O'Dell|Müllner|Haverquist|Ombersley|Thackwell|Brannock|Quarrendon|Szydlak|Żurawik|Fjeldmark|"
        "Grønvall|Lindqvarn|Marwoode|Okwuosa|Çelikbaş|Yıldızer|Vâlcan|Kőhegyi|Čermel|de la Quintela|van der Holmen|"
        "von Eschbrück|MacTavell|O’Farran|St. Clère|Trầnh|Iñárrez|Muñozábal|Lefèbrac|Garçonnet|Bélanger-Roux|Rossetto|"
        "Sørvik|Kjærholt|Þorvald|Ramnath|Iyerson|Tanouye|Wexley|Haddadin|Ndiaye-Colt|Straußfeld|Dąbek|Ørnskov|"
        "Ferreiroá|Pembrow|Castellún|Wojtczuk")
FIRST_AS = words("{}|" * 60 + '{} "Bo"|{} "Kit"|{} & Mo')  # what first names carry now and then, and last names
LAST_AS = words("{}|" * 60 + "{}, CFA|{}, PhD|{}, Jr.|{}, MBA & CPA")
SCRIPTS = {  # country: its funds, first and last names, each with the Latin spelling for its addresses
    "GR": ("Ζελυράνη Κεφάλαια=zelyrani|«Θαλμύρανη» ΑΕ=thalmyrani", "Ελένη=eleni|Δανάη=danai|Μυρτώ=myrto|Νεφέλη=nefeli",
           "Καλβουρίδου=kalvouridou|Μελτεζάκη=meltezaki|Θαλμιώτη=thalmioti|Ξενάρη=xenari"),
    "UA": ("Кволоренія=kvolorenia|Фонд «Дровента»=droventa", "Оксана=oksana|Богдан=bohdan|Юлія=yuliia|Їванна=yivanna",
           "Тавриненко=tavrynenko|Зелюкович=zeliukovych|Дровченко=drovchenko|Квілюк=kviliuk"),
    "CN": ("穹岚梓资本=qionglanzi|霁槿创投有限公司=jijin", "靖岚=jinglan|晓霁=xiaoji|若槿=ruojin|梓遥=ziyao",
           "欧阳=ouyang|闻人=wenren|令狐=linghu|濮阳=puyang"),
    "AE": ("شركة زلمورا كابيتال=zalmoura|قلفيرا للاستثمار=qalvira", "ليلى=layla|طارق=tariq|نورة=noura|هند=hind",
           "الزلموري=alzalmouri|القلفي=alqalfi|الدرونتي=aldaronti|التفريني=altafrini"),
    "IL": ("קוולורה הון=kvelora|זלמיר ושות׳=zalmir", "נועה=noa|איתמר=itamar|שירה=shira|עומר=omer",
           "זלמירון=zalmiron|תברון=tavron|קלמורי=kalmori|דרוונט=drovent"),
    "KR": ("퀠로라 벤처스=kwellora|젤무르 파트너스=jelmur", "서윤=seoyun|도현=dohyeon|하린=harin|은채=eunchae",
           "남궁=namgung|제갈=jegal|독고=dokgo|황보=hwangbo"),
    "JP": ("ケルヴォリア・キャピタル=kervoria|合同会社ゼルミラ=zerumira", "彩乃=ayano|蓮司=renji|美緒=mio|千景=chikage",
           "霧ヶ丘=kirigaoka|月守=tsukimori|雪代谷=yukishirotani|風祭野=kazamatsurino"),
    "IN": ("ज़ेल्मूरन कैपिटल=zelmooran|तवरीन वेंचर्स=tavreen", "अनन्या=ananya|रोहन=rohan|मीरा=meera|कबीर=kabir",
           "तवरानी=tavrani|ज़ेलकर=zelkar|क्वेलूर=kvelur|द्रोवन=drovan"),
}
SPELLED = str.maketrans({"ł": "l", "ø": "o", "æ": "ae", "ß": "ss", "þ": "th", "ı": "i"})
# fmt: on


@dataclass
class Fund:
    """A fund: where it is, its cells but the country, and the share of its rows that show each."""

    code: str
    domain: str
    facts: Row
    shown: dict[str, float]


def pick(dice: random.Random, choices: Sequence[T]) -> T:
    """Return one of the choices: by `random()`, the one method that Python promises never to change."""
    return choices[int(dice.random() * len(choices))]


def take(dice: random.Random, choices: list[T]) -> T:
    """Remove and return one of the choices."""
    return choices.pop(int(dice.random() * len(choices)))


def slug(text: str) -> str:
    """Return the text as plain Latin letters and hyphens."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(SPELLED))
    return re.sub("[^a-z]+", "-", "".join(sign for sign in plain if not unicodedata.combining(sign)))


def phone(dice: random.Random, code: str) -> str:
    """Return a number that belongs to nobody."""
    pattern = PHONES.get(code) or pick(dice, [PHONES["US"], PHONES["GB"]])
    return "".join(pick(dice, "0123456789") if sign == "#" else sign for sign in pattern)


def fund(dice: random.Random, code: str, title: str, name: str, kind: str) -> Fund:
    """Return a fund of that title, with that name in its addresses."""
    domain = f"{name}.{pick(dice, words('example|example|test|example.com'))}"
    site = pick(dice, words("https://www.{}|https://{}|https://{}/|http://www.{}/|www.{}|{}"))
    facts = {
        "fund.title": title,
        "fund.type": pick(dice, words(FORMS[kind][0])),
        "fund.email": f"{pick(dice, words('info|hello|office|deals'))}@{domain}",
        "fund.website": site.format(domain),
        "fund.city": pick(dice, words(PLACES[code][1])),
        "fund.sectors": pick(dice, SECTORS),
        "fund.linkedin": f"https://www.linkedin.com/company/{name}-example",
        "fund.crunchbase": f"https://www.crunchbase.com/organization/{name}-example",
        "fund.phone": phone(dice, code),
        "fund.preferred_stage": pick(dice, STAGES),
    }
    return Fund(code, domain, facts, {column: KEPT * (dice.random() < share) for column, share in KNOWN.items()})


def make_funds(dice: random.Random) -> list[Fund]:
    """Return the funds; the last two share their title and nothing else."""
    stems = [head + tail for head in HEADS for tail in TAILS]
    named = [(code, *entry.split("=")) for code, (funds, _, _) in SCRIPTS.items() for entry in words(funds)]
    funds = [fund(dice, code, title, name, pick(dice, ["VC", "PE"])) for code, title, name in named]
    while len(funds) < sum(SIZES.values()) - 2:
        kind, stem = pick(dice, words("VC|VC|VC|PE|PE|Angels|Family")), take(dice, stems)
        form = pick(dice, words(FORMS[kind][1]))
        title = form.format(stem, take(dice, stems) if form.count("{}") > 1 else "")
        funds.append(fund(dice, pick(dice, USUAL), title, slug(stem), kind))
    twins, stem = [], take(dice, stems)
    for code in ("US", "CH"):
        twins.append(fund(dice, code, f"{stem} Capital", f"{slug(stem)}-{code.lower()}", "VC"))
        twins[-1].shown |= dict.fromkeys(["fund.website", "fund.country", "fund.city"], 1.0)
    return [take(dice, funds) for _ in range(len(funds))] + twins


def person(dice: random.Random, at: Fund, met: set[str]) -> Row:
    """Return somebody at that fund, in its script or now and then in another, with a name that nobody has yet."""
    code = at.code if at.code in SCRIPTS else pick(dice, list(SCRIPTS)) if dice.random() < 0.06 else ""
    address = ""
    while address in met | {""}:
        drawn = [pick(dice, words(names)) for names in (SCRIPTS[code][1:] if code else (FIRST, LAST))]
        (first, given), (last, family) = (name.split("=") if code else (name, slug(name)) for name in drawn)
        address = f"{given}-{family}"
    met.add(address)
    domain = at.domain if dice.random() < 0.9 else "example.com"
    return {
        "poc.first_name": first if code else pick(dice, FIRST_AS).format(first),
        "poc.last_name": last if code else pick(dice, LAST_AS).format(last),
        "poc.role": pick(dice, ROLES),
        "poc.email": f"{pick(dice, [given, given[0]])}.{family}@{domain}",
        "poc.linkedin": f"https://www.linkedin.com/in/{address}-example",
        "poc.phone": phone(dice, at.code),
    }


def repeat(one: Row, other: Row, known: Row) -> None:
    """Make the two rows one person's, each with cells that the other lacks."""
    for column in POC:
        one[column] = known[column] if column in (*KEY, "poc.role", "poc.email") else ""
        other[column] = known[column] if column in (*KEY, "poc.linkedin", "poc.phone") else ""


def misplace(row: Row, known: Row, what: str) -> None:
    """Put a value into the wrong column; a title stays where it is as well."""
    if what == "linkedin":
        group = "poc" if row["poc.last_name"] else "fund"
        row[f"{group}.email"], row[f"{group}.linkedin"] = known[f"{group}.linkedin"], ""
    else:
        row["fund.website"] = known[what]
        row["fund.country"] = "" if what == "fund.country" else row["fund.country"]


def rows() -> list[Row]:
    """Return the rows of the table."""
    dice, met = random.Random(544), set[str]()
    funds = make_funds(dice)
    sizes = [size for size, count in SIZES.items() for _ in range(count)]
    choices = list(range(len(funds) - 2))
    nobody = {take(dice, choices) for _ in range(NOBODY)}  # one row each: without a person, the title is the key
    groups: list[list[tuple[Row, Row]]] = []  # of each fund the rows: what they show beside what they could show
    for number, (at, size) in enumerate(zip(funds, sizes, strict=True)):
        groups.append([])
        for turn in range(size):
            someone = {} if number in nobody and turn == 0 else person(dice, at, met)
            country = {"fund.country": pick(dice, words(PLACES[at.code][0]))}
            known = dict.fromkeys(COLUMNS, "") | someone | at.facts | country
            shown = SHOWN | at.shown
            groups[-1].append(({c: cell if dice.random() < shown[c] else "" for c, cell in known.items()}, known))
    twice = [group for group in groups if len(group) > 3 and all(group[-2][1][column].isascii() for column in KEY)][:2]
    for group in twice:
        (one, known), (other, _) = group[-2:]
        repeat(one, other, known)
    loud = twice[0][-1][0]
    loud.update({column: f" {loud[column].upper()} " for column in KEY})
    plain = [pair for group in groups[:-2] if group not in twice for pair in group]
    for number in range(MISPLACED):
        misplace(*take(dice, plain), ["linkedin", "fund.country", "fund.title"][number % 3])
    return sorted((row for group in groups for row, _ in group), key=lambda _: dice.random())


def main(path: Path) -> None:
    """Write the table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("funds.csv"))
