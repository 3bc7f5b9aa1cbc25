"""Backbones, heads, losses, and the methods that are assembled from them."""
