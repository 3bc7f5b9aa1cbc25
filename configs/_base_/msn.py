"""MSN as appendix C.1 describes it, on ImageNet: the one base of every paper model."""

_base_ = [
    "./models/msn.py",
    "./datasets/imagenet_multicrop.py",
    "./datasets/imagenet_labelled.py",
    "./schedules/msn.py",
    "./runtime/default.py",
]
