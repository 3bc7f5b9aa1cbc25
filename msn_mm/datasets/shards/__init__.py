"""Tar files of images: which there are, what is in them, and copies nearby."""
