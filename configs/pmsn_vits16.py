"""PMSN ViT-S/16: MSN's recipe towards a power law k^-0.25 of its prototypes (arXiv 2210.07277).

    tools/dist_train.sh configs/pmsn_vits16.py 8

Made for data whose classes are unevenly frequent; for classes of your own shares give
`model.loss.prior`, one number a prototype. The targets are not balanced by Sinkhorn,
and the divergence has the weight that MSN's entropy term has without it (table 11).
"""

_base_ = ["./msn_vits16.py"]

model = dict(
    loss=dict(type="PMSNLoss", exponent=0.25, me_max_weight=5.0, sinkhorn_iterations=0),
)
