"""The last block and a head of a ViT-B/16 on few labels: partial fine-tuning (C.2, E.3).

    python tools/finetune.py configs/partial_vitb16.py CHECKPOINT \\
        --cfg-options train_dataloader.dataset.subset_file=5.txt

The labelled images are those that the file names, all without it. The appendix states
no learning rate, length or batch: these are the defaults of tools/partial.py, which
chooses rate and length by cross-validation and sets logistic regression beside it.
"""

_base_ = ["./finetune_vitb16.py"]

model = dict(trained_blocks=1, data_preprocessor=dict(batch_augments=None))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
global_batch_size = 256
base_batch_size = 256
train_dataloader = dict(dataset=dict(subset_file=None, transform=dict(augment=[])))
