"""RCDM at 128 x 128 pixels on an MSN ViT-B/8, trained on whole images (figures 4 and 5).

    python tools/rcdm.py train configs/rcdm_128.py --backbone CHECKPOINT

Any encoder of the zoo takes MSN's place: `--backbone-config configs/dino_vitb8.py`. The
levels are ADM's for this size (arXiv 2105.05233, appendix I); heads of 64 channels.
"""

_base_ = [
    "./_base_/rcdm.py",
    "./_base_/datasets/imagenet_rcdm.py",
    "./_base_/datasets/imagenet_lowshot.py",
]

model = dict(
    encoder=dict(config="configs/msn_vitb8.py"),
    image_size=128,
    encoder_size=224,
    unet=dict(channels=(256, 256, 512, 768, 1024), attention=(False, False, True, True, True)),
)
# 1,000,000 steps of 256 images, of 1,281,167 in all.
train_cfg = dict(by_epoch=True, max_epochs=200)
