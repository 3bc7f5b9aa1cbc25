"""The fast views against torchvision's own transforms on Pillow images."""

title = "Fast views and torchvision's"
runs = [
    dict(label="fast views"),
    dict(
        label="torchvision on Pillow images",
        options={"train_dataloader.dataset.transform.reference": True},
    ),
]
