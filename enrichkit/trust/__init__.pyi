from .comparison import changes
from .decisions import decide
from .frames import corrections, evidence, precision, weak
from .record_page import Dossier, dossier
from .review_box import review

__all__ = ["Dossier", "changes", "corrections", "decide", "dossier", "evidence", "precision", "review", "weak"]
