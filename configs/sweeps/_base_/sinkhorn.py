"""The three rows of table 11 (appendix E.1)."""

title = "Sinkhorn and the weight of mean-entropy maximisation (table 11)"
runs = [
    dict(label="Sinkhorn, lambda 1", published=66.4),
    dict(
        label="no Sinkhorn, lambda 1",
        options={"model.loss.sinkhorn_iterations": 0},
        published=60.8,
    ),
    dict(
        label="no Sinkhorn, lambda 5",
        options={"model.loss.sinkhorn_iterations": 0, "model.loss.me_max_weight": 5.0},
        published=67.2,
    ),
]
