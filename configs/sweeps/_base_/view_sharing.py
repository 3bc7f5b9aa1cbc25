"""Anchor and target from views of their own, or from one.

Random masks only: a focal view cannot be the target's.
"""

title = "Sharing of the view between anchor and target"
_views = "train_dataloader.dataset.transform.views"
runs = [
    dict(label="views of their own", options={f"{_views}.focal.num": 0}),
    dict(
        label="one shared view",
        options={f"{_views}.focal.num": 0, f"{_views}.anchor.same_as": "target"},
    ),
]
