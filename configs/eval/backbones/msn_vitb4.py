"""MSN ViT-B/4, 300 epochs, the released target encoder.

    python tools/lowshot.py CONFIG CHECKPOINT --row configs/eval/backbones/msn_vitb4.py none

Published, not measured here: 54.3, 64.6 and 72.4 % with 1, 2 and 5 labels a class.
Address: YannDubs/SSL-Risk-Decomposition, hub/msn/msn.py, at
38aad1daf6588c3bf745ca8b64d23b3bb90be5f5.
Licence: CC BY-NC 4.0 (facebookresearch/msn).
"""

model = dict(type="MaskedViT", name="vit_base_patch16_224", patch_size=4, img_size=224)
checkpoint = dict(
    source="https://dl.fbaipublicfiles.com/msn/vitb4_300ep.pth.tar",
    license="CC-BY-NC-4.0",
)
