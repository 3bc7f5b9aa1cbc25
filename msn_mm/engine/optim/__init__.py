from msn_mm.engine.optim.decay_groups import DecayGroupsConstructor
from msn_mm.engine.optim.group_optim_wrapper import AmpGroupOptimWrapper, GroupOptimWrapper
from msn_mm.engine.optim.layer_decay import LayerDecayConstructor
from msn_mm.engine.optim.linear_head_groups import LinearHeadGroupsConstructor

__all__ = [
    "AmpGroupOptimWrapper",
    "DecayGroupsConstructor",
    "GroupOptimWrapper",
    "LayerDecayConstructor",
    "LinearHeadGroupsConstructor",
]
