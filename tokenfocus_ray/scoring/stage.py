"""The device stage: from prepared images to score rows, in an actor that holds the backbone."""

from __future__ import annotations

import pyarrow as pa

from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.datasets.manifest import Columns
from tokenfocus_ray.scoring.wire import (
    SCORES,
    prepared_column,
    requests_of,
    rows_to_structs,
    scores_column,
)


class ScoreStage:
    """An actor that holds one backbone with its members."""

    _threads: int | None = None

    def __init__(
        self,
        config: ScoringConfig,
        source: Source,
        columns: Columns,
        device: str | None,
        threads: int | None,
    ) -> None:
        """Loads the weights.

        Args:
            config: What to score with.
            source: The backbone as the driver resolved it, so that all actors load the same.
            columns: Which column is what.
            device: ``"cuda"``, ``"cpu"``, or None for whichever there is.
            threads: CPU threads of torch; Ray gives an actor one unless told otherwise.
        """
        from tokenfocus_ray.scoring.memory import fit_token_budget
        from tokenfocus_ray.scoring.scorer import AlignmentScorer

        self.columns, self._threads = columns, threads
        self.scorer = AlignmentScorer.from_config(config, device=device, source=source)
        fit_token_budget(self.scorer)

    def __call__(self, table: pa.Table, backbone: int = 0) -> pa.Table:
        """Scores a batch.

        Args:
            table: With the prepared images of this backbone.
            backbone: Its place among several.

        Returns:
            The table with its score rows in their place; the field's metadata says what scored.
        """
        if self._threads:
            import torch

            # now, not when made: it holds for the calling thread, and Ray has several
            torch.set_num_threads(self._threads)
        rows = self.scorer.score_requests(list(requests_of(table, self.columns, backbone)))
        field = pa.field(scores_column(backbone), SCORES, metadata=self.scorer.metadata)
        table = table.drop_columns([prepared_column(backbone)])
        return table.append_column(field, rows_to_structs(rows))
