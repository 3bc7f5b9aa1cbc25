"""ViT-B/16 fine-tuned on iNaturalist 2019, 300 epochs (appendix C.5).

    python tools/finetune.py configs/finetune_vitb16_inat19.py CHECKPOINT --amp

Published (not measured here): 78.1 %. configs/eval/inat19.py tells where to get the data.
"""

_base_ = ["./finetune_vitb16_inat18.py"]

data_root = "data/inat19"
model = dict(head=dict(num_classes=1010))
train_dataloader = dict(dataset=dict(dataset=dict(ann_file="train2019.json", data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(ann_file="val2019.json", data_root=data_root)))
