"""Logging, checkpoints, seeds; no validation, because there need not be labels."""

default_scope = "msn_mm"

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3),
    non_finite_steps=dict(type="NonFiniteStepsHook", max_in_a_row=10),
)
# A method puts its own before these: [..., *_base_.custom_hooks].
custom_hooks = [
    dict(type="UnreadableImagesHook", max_bad_fraction=0.05),
    dict(type="ThroughputHook"),
    dict(type="PicturesHook"),
]
visualizer = dict(
    type="LazyVisualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="nccl"))
log_processor = dict(window_size=50)
randomness = dict(seed=0)
