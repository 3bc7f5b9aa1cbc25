"""Transfer fine-tuning as appendix C.5 describes it: a ViT-B/16; a leaf names the data."""

_base_ = [
    "./models/classifier_vitb16.py",
    "./datasets/imagenet_finetune.py",
    "./schedules/finetune_transfer.py",
    "./runtime/default.py",
]

model = dict(backbone=dict(drop_path_rate=0.1))
