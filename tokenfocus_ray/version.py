"""The version, which scores and bundles record."""

__version__ = "0.1.0"
