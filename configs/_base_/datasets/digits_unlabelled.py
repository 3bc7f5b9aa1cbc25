"""1,297 digits without labels, and few labels' accuracy on the other 500; a leaf names views."""

_base_ = ["./imagenet_unlabelled.py", "./digits.py", "./digits_lowshot.py"]

train_dataloader = dict(
    **_base_._digits_loader,
    dataset=dict(
        dataset=dict(_delete_=True, type="Digits", split="pretrain"),
        transform=dict(channels=1),
    ),
)
val_cfg = dict()
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator
