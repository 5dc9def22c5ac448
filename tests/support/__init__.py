"""Shared by the parity, property and GPU tests: samples, folders, the reference, measurements."""
