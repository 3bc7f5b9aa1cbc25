"""1,297 digits with labels to train on, the other 500 to measure on; no mirror images."""

_base_ = ["./imagenet_labelled.py", "./digits.py"]

train_dataloader = dict(
    **_base_._digits_loader,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(size=32, scale=(0.6, 1.0), flip=0.0, channels=1),
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="test"),
        transform=dict(resize=None, crop=None, channels=1),
    ),
)
