"""What asking a server took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Usage:
    """What was asked and what it took.

    Attributes:
        requests: That the server answered.
        tokens_in: As the server counts them.
        tokens_out: Likewise.
    """

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def words(self, price_in: float | None = None, price_out: float | None = None) -> str:
        """For a line that a script can read.

        >>> Usage(2, 1_000_000, 500_000).words(0.5, 2.0)
        'requests=2 tokens_in=1000000 tokens_out=500000 cost=1.5000'

        Args:
            price_in: Money for a million tokens in; None: unknown.
            price_out: Likewise of tokens out.
        """
        text = f"requests={self.requests} tokens_in={self.tokens_in} tokens_out={self.tokens_out}"
        if price_in is None and price_out is None:
            return text
        cost = self.tokens_in * (price_in or 0) + self.tokens_out * (price_out or 0)
        return f"{text} cost={cost / 1e6:.4f}"
