"""One local Ray session for all chaos tests; killed drivers have sessions of their own."""

from __future__ import annotations

from tests.support.sessions import actors_end, session  # noqa: F401
