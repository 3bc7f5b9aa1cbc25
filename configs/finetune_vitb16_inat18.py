"""ViT-B/16 fine-tuned on iNaturalist 2018, 300 epochs (appendix C.5).

    python tools/finetune.py configs/finetune_vitb16_inat18.py CHECKPOINT --amp

Published (not measured here): 72.1 %. configs/eval/inat18.py tells where to get the data.
"""

_base_ = ["./_base_/finetune_transfer.py", "./_base_/datasets/imagenet_finetune.py"]

data_root = "data/inat18"
model = dict(head=dict(num_classes=8142))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True, type="INaturalist", data_root=data_root, ann_file="train2018.json"
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True, type="INaturalist", data_root=data_root, ann_file="val2018.json"
        )
    )
)
