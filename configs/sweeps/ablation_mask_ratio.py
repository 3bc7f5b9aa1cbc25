"""How many patches the random mask takes, by the size of the model.

    python tools/sweep.py configs/sweeps/ablation_mask_ratio.py --jobs slurm:PARTITION

Published for ViT-L/16 at 0.15 and 0.3 is NaN: those trainings failed.
"""

_base_ = ["./_base_/imagenet.py"]

title = "Mask ratio by the size of the model"
_sizes = {
    "ViT-S/16": ("configs/msn_vits16.py", {0.15: 66.3, 0.3: 66.0, 0.5: 64.8}),
    "ViT-B/16": ("configs/msn_vitb16.py", {0.15: 68.8, 0.3: 69.6}),
    "ViT-L/16": ("configs/msn_vitl16.py", {0.15: None, 0.3: None, 0.5: 70.1, 0.7: 69.4}),
}
runs = [
    dict(
        label=f"{name}, {ratio}",
        config=file,
        options={"model.mask_ratio.anchor": ratio},
        published=accuracy,
    )
    for name, (file, found) in _sizes.items()
    for ratio, accuracy in found.items()
]
