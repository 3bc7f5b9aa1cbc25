"""MSN as appendix C.1 describes it; a leaf adds the data."""

_base_ = ["./models/msn.py", "./schedules/msn.py", "./runtime/default.py"]

custom_hooks = [
    dict(type="EMAHook", momentum=0.996, end_momentum=1.0),
    dict(type="CollapseMonitorHook"),
    *_base_.custom_hooks,
]
