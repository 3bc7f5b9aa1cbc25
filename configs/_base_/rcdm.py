"""RCDM with the choices of ADM; a leaf adds encoder, sizes and length."""

_base_ = ["./models/rcdm.py", "./schedules/rcdm.py", "./runtime/default.py"]

custom_hooks = [
    dict(type="EMAHook", momentum=0.9999, end_momentum=0.9999),
    dict(type="RepresentationStatisticsHook"),
    *_base_.custom_hooks,
]
