"""MSN as appendix C.1 describes it, for images of one's own: names no labelled images."""

_base_ = [
    "./models/msn.py",
    "./datasets/imagenet_multicrop.py",
    "./schedules/msn.py",
    "./runtime/default.py",
]
