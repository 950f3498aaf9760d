from .bands import precision
from .comparison import changes
from .decisions import decide
from .frames import corrections, evidence, weak
from .record_page import Dossier, dossier

__all__ = ["Dossier", "changes", "corrections", "decide", "dossier", "evidence", "precision", "weak"]
