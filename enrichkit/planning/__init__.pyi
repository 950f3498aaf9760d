from .questions import StagePlan

__all__ = ["StagePlan"]
