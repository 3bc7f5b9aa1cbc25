"""MSN ViT-L/16, 600 epochs, the released target encoder.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/msn_vitl16.py none

Published, not measured here: 70.1 % with 1 % of the labels (mask 0.5).
Address: YannDubs/SSL-Risk-Decomposition, hub/msn/msn.py, at
38aad1daf6588c3bf745ca8b64d23b3bb90be5f5.
Licence: CC BY-NC 4.0 (facebookresearch/msn).
"""

model = dict(type="MaskedViT", name="vit_large_patch16_224", img_size=224)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/msn/vitl16_600ep.pth.tar",
    license="CC-BY-NC-4.0",
)
