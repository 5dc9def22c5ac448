"""One way to files, for local folders and ``s3://`` URIs."""

from tokenfocus_ray.storage.store import TEMPORARY, Store, system_error
from tokenfocus_ray.storage.uris import public, split_uri

__all__ = ["TEMPORARY", "Store", "public", "split_uri", "system_error"]
