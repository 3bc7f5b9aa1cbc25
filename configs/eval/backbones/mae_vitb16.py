"""MAE ViT-B/16, the pre-trained encoder.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/mae_vitb16.py none

Published, not measured here: 8.2, 25.0 and 40.5 % with 1, 2 and 5 labels a class.
(With partial fine-tuning where that is better than a linear classifier.)
Address and licence: facebookresearch/mae, README.md, at be47fef7a727943547afb0c670cf1b26034c3c89.
Licence: CC BY-NC 4.0.
"""

model = dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
    license="CC-BY-NC-4.0",
)
