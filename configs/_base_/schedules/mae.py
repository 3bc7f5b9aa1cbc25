"""AdamW and the schedule of MAE (table 8); ``train_cfg.max_epochs`` sets its length."""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 4096
accumulation = 1
# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 4096

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="DecayGroupsConstructor",
    # 1.5e-4 * 4096 / 256
    optimizer=dict(type="AdamW", lr=2.4e-3, weight_decay=0.05, betas=(0.9, 0.95), fused=True),
)

param_scheduler = [
    # Nearly from 0: a factor of 0 is none to MMEngine.
    dict(type="LinearLR", start_factor=1e-4, begin=0, end=40, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=40, convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=1600)
