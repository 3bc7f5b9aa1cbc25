"""Pre-training on a folder of images whose settings follow from the machine and the images."""
