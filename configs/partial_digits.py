"""The last block and a head on digits: partial fine-tuning in a minute on two CPU cores.

    python tools/finetune.py configs/partial_digits.py work_dirs/mae_digits/epoch_180.pth

The labelled images are those of train_dataloader.dataset.subset_file, all 1,297 without it.
"""

_base_ = ["./finetune_digits.py"]

model = dict(trained_blocks=1, data_preprocessor=dict(batch_augments=None))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_dataloader = dict(dataset=dict(subset_file=None, transform=dict(augment=[])))
train_cfg = dict(max_epochs=30)
