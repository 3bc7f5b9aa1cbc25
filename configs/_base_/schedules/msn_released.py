"""The schedules of the released code, where they differ from appendix C.1.

Learning rate, weight decay and momentum follow schedules 1.25 times as long as
training, so that the momentum ends at 0.9992; the learning rate heads for 1e-6;
gradients of all but the prototypes are clipped at a norm of 3.
"""

_base_ = ["./msn.py"]

optim_wrapper = dict(clip_grad=dict(max_norm=3.0))

param_scheduler = [
    dict(type="LinearLR", start_factor=0.2, begin=0, end=15, convert_to_iter_based=True),
    dict(
        type="StretchedCosine",
        param_name="lr",
        stretch=1.25,
        eta_min=1e-6,
        begin=15,
        convert_to_iter_based=True,
    ),
    dict(
        type="StretchedCosine",
        param_name="weight_decay",
        stretch=1.25,
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]

custom_hooks = [
    dict(type="EMAHook", momentum=0.996, end_momentum=0.9992),
    dict(type="CollapseMonitorHook"),
    dict(type="UnreadableImagesHook", max_bad_fraction=0.05),
    dict(type="ThroughputHook"),
]
