"""MSN ViT-B/16, 600 epochs, the released target encoder.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/msn_vitb16.py none

Published, not measured here: 49.8, 58.9 and 65.5 % with 1, 2 and 5 labels a class.
Address: YannDubs/SSL-Risk-Decomposition, hub/msn/msn.py, at
38aad1daf6588c3bf745ca8b64d23b3bb90be5f5.
Licence: CC BY-NC 4.0 (facebookresearch/msn).
"""

model = dict(type="MaskedViT", name="vit_base_patch16_224", img_size=224)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/msn/vitb16_600ep.pth.tar",
    license="CC-BY-NC-4.0",
)
