"""Every method on scikit-learn's digits with one budget, in one table: `make zoo-demo`.

    python tools/sweep.py configs/sweeps/zoo_digits.py

Each config is trained as it stands but for its length: 2,400 steps of 64 images, two
thirds of the configs' own; more seeds by `--seeds 0 1 2`. The last row has seen all 1,297
labels, the others none.
"""

title = "The zoo on digits"
seeds = (0,)
# validated by the sweep alone
options = {"train_cfg.max_epochs": 120, "train_cfg.val_interval": 1000}
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
