"""Linear evaluation of any frozen encoder as appendix C.3 describes it; a leaf adds the data."""

_base_ = ["./models/linear_probe.py", "./schedules/linear.py", "./runtime/default.py"]

custom_hooks = [dict(type="ClassCountHook"), dict(type="HeldOutHook"), *_base_.custom_hooks]
