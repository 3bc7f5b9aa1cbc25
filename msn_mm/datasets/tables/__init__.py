"""Tables of images as the Hugging Face hub exports them: their columns and their rows."""
