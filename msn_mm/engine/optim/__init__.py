from msn_mm.engine.optim.decay_groups import DecayGroupsConstructor
from msn_mm.engine.optim.group_optim_wrapper import AmpGroupOptimWrapper, GroupOptimWrapper

__all__ = ["AmpGroupOptimWrapper", "DecayGroupsConstructor", "GroupOptimWrapper"]
