"""MSN ViT-S/16 on anyone's folder of images: nested, mixed formats, no labels, one GPU.

    python tools/train.py configs/msn_folder.py --cfg-options data_root=path/to/images

A batch of 256 fits one GPU of 24 GB with --amp; the learning rate follows the
batch. With fewer than 100,000 images more epochs help more than a larger model.
"""

_base_ = ["./_base_/msn.py"]

data_root = "data/images"
global_batch_size = 256
train_cfg = dict(max_epochs=300)
