"""What data teams take away of scores: selections, pairs, other projects' formats."""
