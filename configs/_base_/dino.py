"""DINO (arXiv 2104.14294); a leaf adds the data."""

_base_ = ["./models/dino.py", "./schedules/dino.py", "./runtime/default.py"]

custom_hooks = [
    dict(type="EMAHook", momentum=0.996, end_momentum=1.0, schedule="cosine"),
    dict(type="CentringHook"),
    dict(type="TargetTemperatureHook", start=0.04, end=0.07, epochs=30),
    dict(type="FrozenLayerHook", module="head.last_layer", epochs=1),
    dict(type="CollapseMonitorHook"),
    *_base_.custom_hooks,
]
