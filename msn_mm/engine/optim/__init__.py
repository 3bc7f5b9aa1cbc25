from msn_mm.engine.optim.decay_groups import DecayGroupsConstructor
from msn_mm.engine.optim.group_optim_wrapper import AmpGroupOptimWrapper, GroupOptimWrapper
from msn_mm.engine.optim.lars import LARS, LARSGroupsConstructor
from msn_mm.engine.optim.layer_decay import LayerDecayConstructor
from msn_mm.engine.optim.linear_head_groups import LinearHeadGroupsConstructor

__all__ = [
    "LARS",
    "AmpGroupOptimWrapper",
    "DecayGroupsConstructor",
    "GroupOptimWrapper",
    "LARSGroupsConstructor",
    "LayerDecayConstructor",
    "LinearHeadGroupsConstructor",
]
