"""MSN ViT-S/16 on anyone's images in Parquet files, as the Hugging Face hub exports them; one GPU.

    pip install 'msn_mm[parquet]'
    python tools/train.py configs/msn_parquet.py --amp --cfg-options 'data_root=x/train-*.parquet'

For a folder of datasets.save_to_disk: train_dataloader.dataset.dataset.type=ArrowImages.
"""

_base_ = ["./msn_folder.py"]

data_root = "data/parquet"
train_dataloader = dict(dataset=dict(dataset=dict(type="ParquetImages")))
