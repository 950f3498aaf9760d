"""Enrich a table by asking Gemini, grounded with Google Search: no paid answer lost, none paid twice.

>>> import enrichkit
>>> sorted(enrichkit.__all__)[:4]
['Answer', 'EnrichError', 'Issue', 'Plan']

The public names stand in ``__init__.pyi``. They are loaded at their first use, so that importing the package stays
quick and brings in no SDK, no widget and no plot library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
