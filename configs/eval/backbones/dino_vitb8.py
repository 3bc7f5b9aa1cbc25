"""DINO ViT-B/8, the teacher's backbone.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/dino_vitb8.py none

Published, not measured here: 45.8, 55.9 and 64.6 % with 1, 2 and 5 labels a class.
Address and licence: facebookresearch/dino, README.md, at 7064315296736d16ae72c08194e9beb0d4b1c0fa.
Licence: Apache-2.0.
"""

model = dict(
    type="MaskedViT", name="vit_base_patch16_224", patch_size=8, img_size=224, resampling="dino"
)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
    license="Apache-2.0",
)
