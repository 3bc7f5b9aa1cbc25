"""MoCo v3 on a ViT as its section 4 describes it (arXiv 2104.02057); a leaf adds the data."""

_base_ = ["./models/mocov3.py", "./schedules/mocov3.py", "./runtime/default.py"]

custom_hooks = [
    dict(type="EMAHook", momentum=0.99, end_momentum=1.0, schedule="cosine"),
    dict(type="CollapseMonitorHook"),
    *_base_.custom_hooks,
]
