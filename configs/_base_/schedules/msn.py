"""AdamW and the schedules of appendix C.1; ``train_cfg.max_epochs`` sets their length."""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 1024
accumulation = 1
# The global batch that the learning rate is stated for; another one scales it.
base_batch_size = 1024

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="DecayGroupsConstructor",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.04, betas=(0.9, 0.999), fused=True),
)

param_scheduler = [
    # 0.0002 to 0.001
    dict(type="LinearLR", start_factor=0.2, begin=0, end=15, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=15, convert_to_iter_based=True),
    # 0.04 to 0.4; a ratio, so that groups without decay stay at 0
    dict(
        type="CosineAnnealingParamScheduler",
        param_name="weight_decay",
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=800)
