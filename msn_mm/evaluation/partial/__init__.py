"""Partial fine-tuning: the last block and a linear head on a few labels (appendices C.2, E.3)."""
