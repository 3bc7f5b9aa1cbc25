"""How many prototypes suit digits: numbers about its ten classes, not ImageNet's thousand.

python tools/sweep.py configs/sweeps/ablation_prototypes_digits.py
"""

_base_ = ["./_base_/digits.py"]

title = "Number of prototypes, on digits"
runs = [
    dict(label=str(number), options={"model.head.num_prototypes": number})
    for number in (8, 16, 32, 64, 128, 256)
]
