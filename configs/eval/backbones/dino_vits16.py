"""DINO ViT-S/16, the teacher's backbone.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/dino_vits16.py none

Published, not measured here: 38.9, 48.9 and 58.5 % with 1, 2 and 5 labels a class.
Address and licence: facebookresearch/dino, README.md, at 7064315296736d16ae72c08194e9beb0d4b1c0fa.
Licence: Apache-2.0.
"""

model = dict(type="MaskedViT", name="vit_small_patch16_224", img_size=224, resampling="dino")
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    license="Apache-2.0",
)
