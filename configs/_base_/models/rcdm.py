"""RCDM on images in [-1, 1]; a leaf names the encoder, the sizes and the UNet's levels."""

model = dict(
    type="RCDM",
    # From [0, 255] to [-1, 1].
    data_preprocessor=dict(
        type="MultiViewPreprocessor", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]
    ),
    # tools/rcdm.py train gives the checkpoint: --backbone.
    encoder=dict(),
    unet=dict(layers=2, head_dim=64, groups=32, condition_width=512),
    schedule=dict(num_steps=1000, betas="linear"),
    learned_variance=True,
    bound_weight=1e-3,
    mask_ratio=0.0,
    gradient_checkpointing=True,
)
