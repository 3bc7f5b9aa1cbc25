from msn_mm.engine import hooks, optim

__all__ = ["hooks", "optim"]
