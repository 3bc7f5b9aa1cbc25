from msn_mm.engine import hooks, optim, schedulers

__all__ = ["hooks", "optim", "schedulers"]
