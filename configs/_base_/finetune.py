"""Fine-tuning as appendix C.4 describes it: a ViT-B/16 on ImageNet."""

_base_ = [
    "./models/classifier_vitb16.py",
    "./datasets/imagenet_finetune.py",
    "./schedules/finetune.py",
    "./runtime/default.py",
]
