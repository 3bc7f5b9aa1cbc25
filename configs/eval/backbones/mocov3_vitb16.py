"""MoCo v3 ViT-B/16, 300 epochs, the base encoder.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/mocov3_vitb16.py none

Published, not measured here: 37.4, 48.3 and 58.0 % with 1, 2 and 5 labels a class.
Address: facebookresearch/moco-v3, CONFIG.md, at 38aae447f5e8f5a6221dbff0d8db40012512fe32.
Licence: CC BY-NC 4.0 (README.md at 878544a45e1ac1712a367e105c19167da851ff27).
"""

model = dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar",
    license="CC-BY-NC-4.0",
)
