"""MSN as appendix C.1 describes it: the one base of every paper model."""

_base_ = [
    "./models/msn.py",
    "./datasets/imagenet_multicrop.py",
    "./schedules/msn.py",
    "./runtime/default.py",
]
