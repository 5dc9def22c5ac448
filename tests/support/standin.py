"""A scorer for tests of jobs: its scores depend on pixels and prompt, and it loads nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import titled, wait_for
from tests.support.scores import metadata
from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.config import JobConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.distributed.score.job import RunSummary, run_job
from tokenfocus_ray.distributed.score.pools import Scorer
from tokenfocus_ray.distributed.session import ray_session
from tokenfocus_ray.errors import PromptError, RowError
from tokenfocus_ray.schema import ScoreRow
from tokenfocus_ray.scoring.request import Request, unscored
from tokenfocus_ray.scoring.stage import ScoreStage


def score_of(request: Request) -> float:
    """Between 1 and 5, from the pixels and the prompt."""
    assert not isinstance(request.image, RowError)
    data = request.image.tiles_NHWC.tobytes() + str(request.prompt).encode()
    return 1 + 4 * zlib.crc32(data) / 2**32


class PixelScorer:
    """Scores by checksum; prompts with an instruction in them do it."""

    def __init__(self, seconds: float) -> None:
        """Takes so long for a row."""
        self._seconds = seconds
        self.metadata = metadata({"pixels": ["base"]})

    def score_requests(self, requests: list[Request]) -> list[ScoreRow]:
        """One row a request."""
        return [self._row(r) for r in requests]

    def _row(self, request: Request) -> ScoreRow:
        time.sleep(self._seconds)
        if isinstance(request.image, RowError):
            return unscored(request, request.image)
        if not request.prompt:
            return unscored(request, PromptError("prompt_empty", "nothing to ask"))
        match str(request.prompt).split(":"):
            case ["raise", message]:
                raise RuntimeError(message)
            case ["device", message]:
                raise RuntimeError(f"CUDA error: {message}")
            case ["until", path] if not Path(path).exists():
                raise RuntimeError("not yet")
            case ["kill", _]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["once", path]:  # a device that is broken until another process takes over
                if not Path(path).exists():
                    Path(path).touch()
                    raise RuntimeError("CUDA error: uncorrectable ECC error")
        score = score_of(request)
        return ScoreRow(request.sample_id, "ok", score=score, member_scores=[score])


class PixelStage(ScoreStage):
    """The scoring stage around :class:`PixelScorer`."""

    seconds = 0.0

    def __init__(self, columns: Columns, device: str, threads: int | None) -> None:
        self.columns = columns
        self.scorer: Any = PixelScorer(self.seconds)


class SlowStage(PixelStage):
    """Slow enough to be killed on the way."""

    seconds = 0.02


def run_pixels(
    manifest: str,
    out: str,
    *,
    stage: type[PixelStage] = PixelStage,
    mapping: Mapping[str, str] | None = None,
    images: str | None = None,
    commit_rows: int = 4,
    job: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunSummary:
    """A job with the stand-in, images at most four tokens large."""
    spec = loading.image_spec(registry.resolve("tiny-qwen2_5_vl"), 4)
    values: dict[str, Any] = {"overwrite": False, "retry_unscored": False, "say": str, **options}
    return run_job(
        [manifest], out, [Scorer("pixels", spec, stage)], {"scorer": stage.__name__}, images=images,
        mapping=mapping or {}, job=JobConfig.parse({"commit_rows": commit_rows, **(job or {})}),
        **values,
    )  # fmt: skip


if __name__ == "__main__":
    # manifest, output folder, JSON of the job's options
    from tests.support import standin

    class Sluggish(standin.PixelStage):
        """Slow enough for a cluster to change on the way."""

        seconds = 0.3

    where, into, options = sys.argv[1:]
    with ray_session():
        try:
            standin.run_pixels(where, into, stage=Sluggish, say=print, job=json.loads(options))
        except Exception as error:
            wait_for(lambda: not titled("ray::MapWorker", os.getpid()), 60)
            print(f"{type(error).__name__}, and no actor is left")
