"""MAE as its appendix A.1 describes it (arXiv 2111.06377); a leaf adds the data."""

_base_ = ["./models/mae.py", "./schedules/mae.py", "./runtime/default.py"]

custom_hooks = [dict(type="CollapseMonitorHook"), *_base_.custom_hooks]
