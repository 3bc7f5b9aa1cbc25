"""Four masking strategies; the anchor views of one that has none are left out."""

title = "Masking strategy"
_views = "train_dataloader.dataset.transform.views"
runs = [
    dict(
        label="no mask",
        options={"model.mask_ratio.anchor": 0.0, f"{_views}.focal.num": 0},
        published=49.3,
    ),
    dict(label="focal mask", options={f"{_views}.anchor.num": 0}, published=39.3),
    dict(label="random mask", options={f"{_views}.focal.num": 0}, published=52.3),
    dict(label="random and focal", published=59.8),
]
