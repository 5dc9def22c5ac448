"""A page about scores: what is counted, which rows are shown, and the page itself; without Ray."""
