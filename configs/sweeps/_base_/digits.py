"""What the sweeps on digits share: a minute's training on two cores, three seeds."""

config = "configs/msn_digits.py"
seeds = (0, 1, 2)
# 30 epochs of 20 steps of 64 images, the first 3 to warm up; validated by the sweep alone.
options = {
    "train_cfg.max_epochs": 30,
    "train_cfg.val_interval": 100,
    "param_scheduler.0.end": 3,
    "param_scheduler.1.begin": 3,
}
evaluation = dict(images_per_class=(1, 2, 5), splits=20, knn=(10,))
