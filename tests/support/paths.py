"""Where things are, whatever the depth of the test that asks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "enrichkit"
DATA = ROOT / "data"
TABLE = DATA / "funds.csv"
