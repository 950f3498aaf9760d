from .bands import precision
from .frames import corrections, evidence, weak
from .record_page import Dossier, dossier

__all__ = ["Dossier", "corrections", "dossier", "evidence", "precision", "weak"]
