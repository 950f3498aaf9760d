from . import funds

__all__ = ["funds"]
