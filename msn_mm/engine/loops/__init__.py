from msn_mm.engine.loops.exact_epoch_loop import ExactEpochLoop

__all__ = ["ExactEpochLoop"]
