"""What the fast views are worth on CIFAR-10: flips, crops, colour jitter and grey; one GPU.

python tools/sweep.py configs/sweeps/reference_views_cifar10.py
"""

_base_ = ["./_base_/reference_views.py"]

config = "configs/msn_cifar10.py"
seeds = (0, 1, 2)
# an eighth of the config's own length; validated by the sweep alone
options = {"train_cfg.max_epochs": 50, "train_cfg.val_interval": 1000}
evaluation = dict(images_per_class=(1, 2, 5), splits=20, knn=(10,))
