"""MSN ViT-S/16 on anyone's folder of images: nested, mixed formats, no labels, one GPU.

    python tools/train.py configs/msn_folder.py --cfg-options data_root=path/to/images

By the prediction of --dry-run a batch of 192 needs 17 GiB with --amp; set another
global_batch_size for another GPU, the learning rate follows. With fewer than
100,000 images more epochs help more than a larger model.
"""

_base_ = ["./_base_/msn.py", "./_base_/datasets/imagenet_msn.py"]

data_root = "data/images"
global_batch_size = 192
train_cfg = dict(max_epochs=300)
