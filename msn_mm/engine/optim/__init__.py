from msn_mm.engine.optim.decay_groups import DecayGroupsConstructor
from msn_mm.engine.optim.group_optim_wrapper import AmpGroupOptimWrapper, GroupOptimWrapper
from msn_mm.engine.optim.layer_decay import LayerDecayConstructor

__all__ = [
    "AmpGroupOptimWrapper",
    "DecayGroupsConstructor",
    "GroupOptimWrapper",
    "LayerDecayConstructor",
]
