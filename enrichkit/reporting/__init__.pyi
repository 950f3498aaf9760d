from . import plots

__all__ = ["plots"]
