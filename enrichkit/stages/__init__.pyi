from . import checks, funds

__all__ = ["checks", "funds"]
