"""MSN as the released code trains it; see ``schedules/msn_released.py`` for the schedules.

One random mask serves the whole batch of a process.
"""

_base_ = [
    "./models/msn.py",
    "./datasets/imagenet_multicrop.py",
    "./datasets/imagenet_labelled.py",
    "./schedules/msn_released.py",
    "./runtime/default.py",
]

model = dict(shared_mask=True)
