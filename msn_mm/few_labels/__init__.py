"""A classifier from a frozen encoder and a few labels, and what it is worth."""
