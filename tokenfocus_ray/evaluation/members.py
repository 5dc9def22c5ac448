"""Score rows of several members, taken apart: one table a member, for comparing them."""

from __future__ import annotations
