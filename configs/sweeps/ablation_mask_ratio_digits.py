"""How many of a digit's 16 patches the random mask takes.

python tools/sweep.py configs/sweeps/ablation_mask_ratio_digits.py
"""

_base_ = ["./_base_/digits.py"]

title = "Mask ratio, on digits"
runs = [
    dict(label=str(ratio), options={"model.mask_ratio.anchor": ratio})
    for ratio in (0.0, 0.15, 0.3, 0.5, 0.7)
]
