"""iNaturalist 2018: 8,142 species, 437,513 training and 24,426 validation images.

    python tools/transfer.py CONFIG CHECKPOINT --data inat18

Unpack train_val2018.tar.gz (120 GB), train2018.json.tar.gz and val2018.json.tar.gz of
https://github.com/visipedia/inat_comp/tree/master/2018 into data_root.
"""

data_root = "data/inat18"
data = dict(
    support=dict(type="INaturalist", ann_file="train2018.json"),
    query=dict(type="INaturalist", ann_file="val2018.json"),
)
