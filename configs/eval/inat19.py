"""iNaturalist 2019: 1,010 species, 265,213 training and 3,030 validation images.

    python tools/transfer.py CONFIG CHECKPOINT --data inat19

Unpack train_val2019.tar.gz (74 GB), train2019.json.tar.gz and val2019.json.tar.gz of
https://github.com/visipedia/inat_comp/tree/master/2019 into data_root.
"""

data_root = "data/inat19"
data = dict(
    support=dict(type="INaturalist", ann_file="train2019.json"),
    query=dict(type="INaturalist", ann_file="val2019.json"),
)
