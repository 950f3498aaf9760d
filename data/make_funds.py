"""Make data/funds.csv: 544 invented contacts at about 300 invented funds."""

import csv
import random
import sys
from pathlib import Path

COLUMNS = [
    "poc.first_name",
    "poc.last_name",
    "poc.role",
    "poc.email",
    "poc.linkedin",
    "poc.phone",
    "fund.title",
    "fund.type",
    "fund.website",
    "fund.country",
    "fund.city",
    "fund.sectors",
    "fund.linkedin",
    "fund.crunchbase",
]
HEAD = [
    "Borealis",
    "Quillon",
    "Tarnwick",
    "Ostrava",
    "Ferncrest",
    "Halden",
    "Miravel",
    "Åsgard",
    "Żubr",
    "Northfen",
    "Kestrelle",
    "Lumenor",
]
TAIL = ["Ventures", "Capital", "Partners & Co", "Growth Llc", "Equity", "Holdings"]
FIRST = ["Ana", "José", "Łucja", "Björn", "Мария", "明", "Zoë", "Priya", "Tomás", "Ingrid"]
LAST = ["Aas", "Berg", "Núñez", "Kowalczyk", "Иванова", "王", "O'Dell", "Müller", "Silva", "Haddad"]


def rows(dice: random.Random) -> list[dict[str, str]]:
    """Return the rows."""
    funds = [f"{head} {tail} {number}" for number in range(5) for head in HEAD for tail in TAIL][:300]
    result = []
    for number in range(544):
        fund = funds[number] if number < 300 else dice.choice(funds[:120])
        person = dice.random() >= 0.1
        first, last = (dice.choice(FIRST), f"{dice.choice(LAST)}-{number}") if person else ("", "")
        result.append(
            dict.fromkeys(COLUMNS, "")
            | {
                "poc.first_name": first,
                "poc.last_name": last,
                "poc.email": f"contact{number}@example.com" if dice.random() < 0.5 else "",
                "fund.title": fund,
                "fund.type": dice.choice(["VC", "PE", "Family office"]),
                "fund.country": dice.choice(["usa", "US", "United States", "UK", "Norway"]),
                "fund.city": dice.choice(["London; New York", "Oslo", ""]),
            }
        )
    return result


def main(path: Path) -> None:
    """Write the table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(random.Random(544)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("funds.csv"))
