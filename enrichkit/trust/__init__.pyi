from .bands import precision
from .comparison import changes
from .frames import corrections, evidence, weak
from .record_page import Dossier, dossier

__all__ = ["Dossier", "changes", "corrections", "dossier", "evidence", "precision", "weak"]
