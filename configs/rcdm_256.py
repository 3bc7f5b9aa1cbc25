"""RCDM at 256 x 256 pixels on an MSN ViT-L/7, trained with 70 % masked (figures 6 to 8).

    python tools/rcdm.py train configs/rcdm_256.py --backbone CHECKPOINT

The levels are ADM's for this size (arXiv 2105.05233, appendix I).
"""

_base_ = ["./rcdm_128.py"]

model = dict(
    encoder=dict(config="configs/msn_vitl7.py"),
    image_size=256,
    mask_ratio=0.7,
    unet=dict(
        channels=(256, 256, 512, 512, 1024, 1024),
        attention=(False, False, False, True, True, True),
    ),
)
train_dataloader = dict(dataset=dict(transform=dict(views=dict(image=dict(size=256)))))
