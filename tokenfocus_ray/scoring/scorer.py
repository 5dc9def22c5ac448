"""The one composition: images and prompts in, score rows out.

In-process use, Ray Data actors and Ray Serve replicas all run this class, so they give the same
scores. Preparing (CPU) and scoring (device) are separate methods, because they are separate stages
on a cluster. What the device does is :mod:`~tokenfocus_ray.scoring.forward`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.backbones.lora import check_training_records, load_adapters, local_adapters
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import ConfigError, RowError
from tokenfocus_ray.schema import ScoreRow, backbone_label
from tokenfocus_ray.scoring.answers import Answers
from tokenfocus_ray.scoring.forward import ForwardPass
from tokenfocus_ray.scoring.image import ImageSource
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import PromptTemplate, question_settings
from tokenfocus_ray.scoring.questions import Part, QuestionPacker
from tokenfocus_ray.scoring.request import Request, prepare_request, unscored
from tokenfocus_ray.tables.members import BackboneInfo, ScoreTableInfo
from tokenfocus_ray.version import __version__

#: Most tokens of a micro-batch, padding included.
TOKEN_BUDGET = 8192
#: Images decoded at a time by :meth:`AlignmentScorer.score`, so that a long list fits in memory.
WINDOW = 64


class AlignmentScorer:
    """Scores how well images follow their prompts.

    Example:
        >>> from tokenfocus_ray import AlignmentScorer
        >>> scorer = AlignmentScorer.from_pretrained("tiny-qwen2_5_vl")
        >>> import numpy as np
        >>> image = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> row, = scorer.score([image], ["one red circle"], [["circle (object)"]])
        >>> row.status, 1 <= row.score <= 5, len(row.element_scores)
        ('ok', True, 1)

    Attributes:
        backbone: The loaded LVLM with its members.
        config: What it was made from.
        template: Wording of the questions.
        total_levels: Words of the overall score.
        element_levels: Words of an element's score.
        packer: Encodes requests for the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: ScoringConfig,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        """See :meth:`from_pretrained`, which loads the backbone too.

        Raises:
            LevelError: a level word is not one token of the backbone's tokenizer.
            ConfigError: the token budget is below 1.
        """
        if token_budget < 1:
            raise ConfigError(f"token_budget must be at least 1, got {token_budget}")
        self.backbone = backbone
        self.config = config
        self.template = PromptTemplate(structure=config.structure)
        self.total_levels = LevelVocabulary.of(config.total_levels)
        self.element_levels = LevelVocabulary.of(config.element_levels)
        self.packer = QuestionPacker(
            backbone, self.template, self.total_levels, self.element_levels
        )
        self._forward = ForwardPass(backbone, self.packer, config.normalization, token_budget)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        adapters: Mapping[str, str] | Sequence[str | Path] | str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        token_budget: int = TOKEN_BUDGET,
        **options: Any,
    ) -> Self:
        """Loads a backbone and its members.

        Args:
            name_or_folder: Built-in name, folder or hub id.
            adapters: Member name -> adapter folder, or folders (members get the folders' names).
            device: As torch names it; by default a GPU when there is one, else the CPU.
            dtype: ``"auto"`` is float32 on a CPU and bfloat16 on a GPU.
            token_budget: Most tokens of a micro-batch, padding included.
            **options: Other fields of :class:`~tokenfocus_ray.config.ScoringConfig`.

        Raises:
            BackboneError: unknown or unloadable backbone.
            AdapterError: an adapter that is missing or was made for another backbone.
            LevelError: a level word is not one token.
            ConfigError: an option is unknown or out of range.
        """
        if isinstance(adapters, (str, Path)):
            adapters = [adapters]
        if adapters is not None and not isinstance(adapters, Mapping):
            names = [Path(folder).name for folder in adapters]
            if len(set(names)) != len(names):
                raise ConfigError(
                    f"adapters {[str(folder) for folder in adapters]}: two folders have one name; "
                    f"give a mapping of member name to folder"
                )
            adapters = {name: str(f) for name, f in zip(names, adapters, strict=True)}
        values = {
            "backbone": str(name_or_folder),
            "adapters": dict(adapters or {}),
            "dtype": str(dtype).removeprefix("torch."),
            **options,
        }
        config = ScoringConfig.parse(values, "AlignmentScorer.from_pretrained")
        return cls.from_config(config, device=device, token_budget=token_budget)

    @classmethod
    def from_config(
        cls,
        config: ScoringConfig,
        *,
        device: str | torch.device | None = None,
        token_budget: int = TOKEN_BUDGET,
        source: Source | None = None,
    ) -> Self:
        """Like :meth:`from_pretrained`, from a configuration.

        Args:
            config: What to score with.
            device: See :meth:`from_pretrained`.
            token_budget: Likewise.
            source: What ``config.backbone`` was resolved to by the process that started this one;
                None: it is resolved here.

        Raises:
            UserError: as :meth:`from_pretrained`.
        """
        try:
            device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise ConfigError(f"device {device!r}: {str(error).splitlines()[0]}") from error
        auto = "float32" if device.type == "cpu" else "bfloat16"
        dtype = getattr(torch, auto if config.dtype == "auto" else config.dtype)
        if source is None:
            source = registry.resolve(config.backbone, config.revision)
        else:
            source = registry.on_this_node(source)
        backbone = loading.load(
            source,
            device=device,
            dtype=dtype,
            max_visual_tokens=config.max_visual_tokens,
        )
        with local_adapters(config.adapters) as folders:
            check_training_records(folders, config.backbone, question_settings(config))
            load_adapters(backbone, folders)
        return cls(backbone, config, token_budget)

    @property
    def token_budget(self) -> int:
        """Most tokens of a micro-batch, padding included; halved where memory runs out.

        It changes the pace, and a score by rounding only (float32: below 1e-5; bfloat16: up to
        about .01).
        """
        return self._forward.token_budget

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        self._forward.token_budget = tokens

    @property
    def metadata(self) -> dict[str, str]:
        """What a score depends on, for the Parquet schema's metadata."""
        source = self.backbone.source
        one = BackboneInfo(
            name=backbone_label(source.name),
            source=source.name,
            revision=source.revision,
            package=__version__,
            template=self.template.fingerprint(),
            members=self.backbone.members,
            config=self.config.model_dump(mode="json"),
        )
        return ScoreTableInfo(backbones=(one,)).to_metadata()

    def score(
        self,
        images: Sequence[ImageSource],
        prompts: Sequence[str],
        elements: Sequence[Any] | None = None,
        prompt_types: Sequence[str | None] | None = None,
    ) -> list[ScoreRow]:
        """Scores N images, each against its own prompt and elements.

        Args:
            images: [N] paths, encoded bytes, PIL images, numpy or torch arrays.
            prompts: [N] text prompts.
            elements: [N] lists of elements (see :func:`~tokenfocus_ray.schema.parse_elements`).
            prompt_types: [N] ``"real"``, ``"synthetic"`` or None.

        Returns:
            [N] rows in the order of the input. A row that cannot be scored has NaN and a reason.

        Raises:
            ValueError: the lists differ in length.
        """
        if isinstance(prompts, str):
            raise ValueError(f"prompts must be a list of texts, got one text: {prompts!r:.80}")
        n = len(images)
        columns = {"prompts": prompts, "elements": elements, "prompt_types": prompt_types}
        for name, column in columns.items():
            if column is not None and len(column) != n:
                raise ValueError(f"{n} images but {len(column)} {name}; give one for each image")
        rows: list[ScoreRow] = []
        given = ([None] * n if column is None else column for column in (elements, prompt_types))
        samples = zip(images, prompts, *given, strict=True)
        while window := list(itertools.islice(samples, WINDOW)):
            rows += self.score_requests([self.request(*sample) for sample in window])
        return rows

    def __call__(self, images: Sequence[ImageSource], texts: Sequence[str]) -> torch.Tensor:
        """Scores every image against every text, as users of VQAScore know it.

        Args:
            images: [M] images.
            texts: [N] prompts.

        Returns:
            float32 [M, N] overall scores; NaN where unscored. Each image is decoded once.
        """
        scores = torch.full((len(images), len(texts)), math.nan)
        for m, image in enumerate(images):
            first = self.request(image, "", None, None)
            rows = self.score_requests([replace(first, prompt=text) for text in texts])
            scores[m] = torch.tensor([row.score for row in rows])
        return scores

    def request(
        self, image: ImageSource, prompt: str, elements: Any, prompt_type: str | None
    ) -> Request:
        """Decodes and prepares one sample; failures travel in the request."""
        spec = self.backbone.image_spec
        return prepare_request(spec, image, prompt, elements, prompt_type)

    def score_requests(self, requests: Sequence[Request]) -> list[ScoreRow]:
        """Scores prepared samples: the device stage.

        Args:
            requests: N samples.

        Returns:
            [N] rows in their order, one for each request whatever happens.
        """
        rows: dict[int, ScoreRow] = {}
        answers: dict[int, Answers] = {}
        parts: list[Part] = []
        shape = (len(self.backbone.members), len(self.total_levels.words))
        for i, request in enumerate(requests):
            try:
                parts += self._pack(i, request)
                answers[i] = Answers.empty(*shape, request.n_elements)
            except RowError as error:
                rows[i] = unscored(request, error)
        self._forward(parts, [request.image for request in requests], answers)
        for i, answer in answers.items():
            rows[i] = answer.row(requests[i], self.backbone.members)
        return [rows[i] for i in range(len(requests))]

    def _pack(self, index: int, request: Request) -> list[Part]:
        if isinstance(request.image, RowError):
            raise request.image
        if isinstance(request.elements, RowError):
            raise request.elements
        return self.packer.pack(
            index,
            request.image,
            request.prompt,
            tuple(request.elements),
            request.prompt_type,
            self.token_budget,
        )
