"""A merge that is slow enough to be killed on the way: scores, bundle, output folder."""

from __future__ import annotations

import sys
import time

from tokenfocus_ray.distributed import merge

PART_ROWS = 64


class SlowParts(merge.MergeParts):
    """Takes its time."""

    def _make(self, part: int) -> int:
        time.sleep(0.3)
        return merge.MergeParts._make(self, part)


if __name__ == "__main__":
    from tests.support import merging

    merge.PART_ROWS = PART_ROWS
    merge.MergeParts = merging.SlowParts  # type: ignore[misc]
    scores, bundle, out = sys.argv[1:]
    print(merge.merge_scores([scores], out, bundle).line())
