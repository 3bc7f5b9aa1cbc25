"""ADM's optimizer: AdamW at a constant rate, no decay (arXiv 2105.05233, appendix I)."""

global_batch_size = 256
accumulation = 1
base_batch_size = 256

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="DecayGroupsConstructor",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.0, fused=True),
)
param_scheduler = []
