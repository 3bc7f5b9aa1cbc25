from msn_mm.engine import hooks, loops, optim, schedulers

__all__ = ["hooks", "loops", "optim", "schedulers"]
