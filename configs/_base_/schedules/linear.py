"""SGD of the linear evaluation (appendix C.3); ``train_cfg.max_epochs`` sets its length."""

# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 16384
# A process takes 16384 / (processes * accumulation) images at a time.
global_batch_size = 16384
accumulation = 8

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="LinearHeadGroupsConstructor",
    optimizer=dict(type="SGD", lr=6.4, momentum=0.9, nesterov=True, weight_decay=0.0),
)
# From the first step to the last, without warm-up.
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=0.0, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=10)

val_cfg = dict()
val_evaluator = dict(type="LinearMetric")
