"""Linear heads over a grid of features and learning rates on one frozen encoder."""

model = dict(
    type="LinearProbe",
    encoder=dict(config="configs/msn_vits16.py", cfg_options=dict(), checkpoint=None),
    num_classes=1000,
    features=("cls1", "cls4", "cls1+avg", "cls4+avg"),
    lr_scales=(0.1, 0.3, 1.0, 3.0, 10.0),
    layer_norms=(False,),
    norm=False,
    amp=None,
    image_size=224,
)
