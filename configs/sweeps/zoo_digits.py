"""Every method on scikit-learn's digits with one budget, in one table: `make zoo-demo`.

    python tools/sweep.py configs/sweeps/zoo_digits.py

Each config is trained as it stands, for the same number of steps and images; more seeds
by `--seeds 0 1 2`. The last row has seen all 1,297 labels, the others none.
"""

title = "The zoo on digits"
seeds = (0,)
runs = [
    dict(label="MSN", config="configs/msn_digits.py"),
    dict(label="PMSN", config="configs/pmsn_digits.py"),
    dict(label="DINO", config="configs/dino_digits.py"),
    dict(label="iBOT", config="configs/ibot_digits.py"),
    dict(label="MAE", config="configs/mae_digits.py"),
    dict(label="MoCo v3", config="configs/mocov3_digits.py"),
    dict(label="SimCLR", config="configs/simclr_digits.py"),
    dict(label="BYOL", config="configs/byol_digits.py"),
    dict(label="supervised, all labels", config="configs/supervised_digits.py"),
]
evaluation = dict(images_per_class=(1, 2, 5), splits=20, knn=(10,))
