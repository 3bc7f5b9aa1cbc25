"""AdamW and DINO's schedules (arXiv 2104.14294, section 3.2 and the released settings)."""

# The batch over all processes and accumulation steps; a process takes its share.
global_batch_size = 1024
accumulation = 1
# The global batch that the learning rate (0.0005 for each 256 images) is stated for; another
# one scales it.
base_batch_size = 1024

optim_wrapper = dict(
    type="GroupOptimWrapper",
    constructor="DecayGroupsConstructor",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.04, betas=(0.9, 0.999), fused=True),
    clip_grad=dict(type="each", max_norm=3.0),
)

param_scheduler = [
    # From (nearly) 0, where a factor could not start.
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=10, eta_min=1e-5, convert_to_iter_based=True),
    # 0.04 to 0.4; a ratio, so that groups without decay stay at 0
    dict(
        type="CosineAnnealingParamScheduler",
        param_name="weight_decay",
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=800)
