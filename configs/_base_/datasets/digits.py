"""What every config of scikit-learn's handwritten digits shares; sets nothing by itself."""

# One channel of 32 x 32 pixels, between 0 and 255.
_digits_pixels = dict(mean=[78.0], std=[90.0])
_digits_vit = dict(
    name="vit_tiny_patch16_224",
    img_size=32,
    patch_size=8,
    in_chans=1,
    embed_dim=96,
    depth=4,
    num_heads=3,
)
# 8 x 8 places after the stem: the scans have no more. A step of SimCLR or BYOL on it
# costs less than one of MSN on the ViT.
_digits_resnet = dict(
    type="PlainResNet",
    layers=(1, 1, 1),
    block="basic",
    base_channels=32,
    in_channels=1,
)

# A digit means something else in the mirror, so small rotations, shears and bends take
# the place of flips, and there is no colour to jitter.
_digits_ops = [
    dict(type="Rotation", degrees=15.0),
    dict(type="Shear", degrees=15.0),
    dict(type="ElasticWarp", magnitude=0.1),
]
_digits_large = dict(size=32, scale=(0.6, 1.0), ops=_digits_ops)
# For methods whose views are all alike.
_digits_any = dict(size=32, scale=(0.2, 1.0), ops=_digits_ops)
_digits_small = dict(size=16, scale=(0.2, 0.6), ops=_digits_ops)

# The images are in memory and the two cores belong to the model.
_digits_loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
_digits_batch = 64
# One length for every method that learns without labels.
_digits_length = dict(max_epochs=180, val_interval=20)
_digits_hooks = dict(checkpoint=dict(interval=20))
