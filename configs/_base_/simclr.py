"""SimCLR as its paper trains it for long (arXiv 2002.05709, section 2.2); a leaf adds the data."""

_base_ = ["./models/simclr.py", "./schedules/lars.py", "./runtime/default.py"]

custom_hooks = [dict(type="CollapseMonitorHook"), *_base_.custom_hooks]
