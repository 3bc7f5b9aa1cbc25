"""BYOL as its paper trains it (arXiv 2006.07733, section 3.3); a leaf adds the data."""

_base_ = ["./models/byol.py", "./schedules/lars.py", "./runtime/default.py"]

# 0.2 * batch / 256
optim_wrapper = dict(optimizer=dict(lr=3.2, weight_decay=1.5e-6))
custom_hooks = [
    dict(type="EMAHook", momentum=0.996, end_momentum=1.0, schedule="cosine"),
    dict(type="CollapseMonitorHook"),
    *_base_.custom_hooks,
]
