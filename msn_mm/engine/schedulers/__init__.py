from msn_mm.engine.schedulers.stretched_cosine import StretchedCosine

__all__ = ["StretchedCosine"]
