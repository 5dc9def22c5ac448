"""Importers: what other data sets lay down -> manifests, one format a file."""
