"""A page on what a training did: one module a section."""
