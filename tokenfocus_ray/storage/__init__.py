"""One way to files, for local folders and URIs of stores."""

from tokenfocus_ray.storage.disk import TEMPORARY
from tokenfocus_ray.storage.explain import store_failed, system_error
from tokenfocus_ray.storage.schemes import is_remote
from tokenfocus_ray.storage.store import Store
from tokenfocus_ray.storage.uris import public, split_uri

__all__ = [
    "TEMPORARY",
    "Store",
    "is_remote",
    "public",
    "split_uri",
    "store_failed",
    "system_error",
]
