"""Data sets: importers, one format a file, and the built-in benchmark."""

from tokenfocus_ray.datasets.evalmuse import EVALMUSE_SCHEMA, read_evalmuse, write_evalmuse

__all__ = ["EVALMUSE_SCHEMA", "read_evalmuse", "write_evalmuse"]
