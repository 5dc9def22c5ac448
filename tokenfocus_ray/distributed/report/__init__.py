"""A page about scores, from tables of any size."""
