"""Fine-tuning of a ViT-B/16 as appendix C.4 describes it; a leaf adds the data."""

_base_ = ["./models/classifier_vitb16.py", "./schedules/finetune.py", "./runtime/default.py"]

custom_hooks = [dict(type="ClassCountHook"), *_base_.custom_hooks]
