"""MSN ViT-S/16 with the schedules and the shared mask of the released code.

    tools/dist_train.sh configs/msn_vits16_released.py 8

Where they differ from appendix C.1: learning rate, weight decay and momentum follow
schedules 1.25 times as long as training, so that the momentum ends at 0.9992; the
learning rate heads for 1e-6; gradients of all but the prototypes are clipped at a norm
of 3; one random mask serves the whole batch of a process.
"""

_base_ = [
    "./_base_/msn.py",
    "./_base_/datasets/imagenet_msn.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(shared_mask=True)
optim_wrapper = dict(clip_grad=dict(max_norm=3.0))
param_scheduler = [
    _base_.param_scheduler[0],
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
    *_base_.custom_hooks[1:],
]
