"""MSN ViT-S/16 on anyone's images in tar shards, as webdataset writes them; one GPU.

    pip install 'msn_mm[shards]'
    python tools/train.py configs/msn_shards.py --amp --cfg-options 'data_root=x/{000..146}.tar'

Where the shards lie on a network disk, a bucket or behind a command, add
train_dataloader.dataset.dataset.stream=True: they are then read whole, one after another.
"""

_base_ = ["./msn_folder.py"]

data_root = "data/shards"
train_dataloader = dict(dataset=dict(dataset=dict(type="TarShards")))
