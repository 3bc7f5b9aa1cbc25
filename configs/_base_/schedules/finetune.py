"""AdamW with layer-wise decay and the schedule of appendix C.4."""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 1024
accumulation = 1
# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 1024

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.65),
    # The appendix states no weight decay and no betas: those of BEiT and MAE, which it follows.
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05, betas=(0.9, 0.999), fused=True),
)

param_scheduler = [
    # Nearly from 0: a factor of 0 is none to MMEngine.
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=5, convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)

val_cfg = dict()
val_evaluator = dict(type="TopAccuracy", topk=(1, 5))
