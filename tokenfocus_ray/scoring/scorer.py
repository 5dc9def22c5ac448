"""The one composition: images and prompts in, score rows out.

In-process use, Ray Data actors and Ray Serve replicas all run this class, so they give the same
scores. Preparing (CPU) and scoring (device) are separate methods, because they are separate stages
on a cluster.

Legend: B sequences, K levels, M members, E elements, A answer positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch

from tokenfocus_ray.backbones import loading, registry
from tokenfocus_ray.backbones.base import Backbone, Source
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.lora import check_taught, load_adapters, local_adapters
from tokenfocus_ray.backbones.packing import collate, micro_batches
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.errors import ConfigError, RowError
from tokenfocus_ray.schema import ScoreRow, backbone_label, sample_id
from tokenfocus_ray.scoring.answers import Answers
from tokenfocus_ray.scoring.distribution import level_distribution
from tokenfocus_ray.scoring.encoder import ImageEncoder
from tokenfocus_ray.scoring.image import ImageSource, decode
from tokenfocus_ray.scoring.levels import LevelVocabulary
from tokenfocus_ray.scoring.prompt import PromptTemplate, asked
from tokenfocus_ray.scoring.questions import Part, QuestionPacker
from tokenfocus_ray.scoring.request import Request, image_reference, read_elements, unscored
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
        token_budget: Most tokens of a micro-batch; changes the pace, and a score by rounding only
            (float32: below 1e-5; bfloat16: up to about .01).
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
        self.token_budget = token_budget
        self.total_levels = LevelVocabulary.of(config.total_levels)
        self.element_levels = LevelVocabulary.of(config.element_levels)
        self.packer = QuestionPacker(
            backbone, self.template, self.total_levels, self.element_levels
        )

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
        backbone = loading.load(
            registry.on_this_node(source)
            if source
            else registry.resolve(config.backbone, config.revision),
            device=device,
            dtype=dtype,
            max_visual_tokens=config.max_visual_tokens,
        )
        with local_adapters(config.adapters) as folders:
            check_taught(folders, config.backbone, asked(config))
            load_adapters(backbone, folders)
        return cls(backbone, config, token_budget)

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
        columns = {
            "prompts": prompts,
            "elements": elements,
            "prompt_types": prompt_types,
        }
        for name, column in columns.items():
            if column is not None and len(column) != n:
                raise ValueError(f"{n} images but {len(column)} {name}; give one for each image")
        rows: list[ScoreRow] = []
        for start in range(0, n, WINDOW):
            requests = [
                self.request(
                    images[i],
                    prompts[i],
                    elements[i] if elements is not None else None,
                    prompt_types[i] if prompt_types is not None else None,
                )
                for i in range(start, min(n, start + WINDOW))
            ]
            rows += self.score_requests(requests)
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
        prepared: PreparedImage | RowError
        try:
            prepared = self.backbone.image_spec.prepare(decode(image))
        except RowError as error:
            prepared = error
        reference = image_reference(image)
        if reference is None and isinstance(prepared, PreparedImage):
            reference = prepared.tiles_NHWC.tobytes()
        return Request(
            sample_id(reference or b"", prompt if isinstance(prompt, str) else ""),
            prompt,
            prepared,
            read_elements(elements),
            prompt_type,
        )

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
        encoder = ImageEncoder(self.backbone, [requests[p.request].image for p in parts])
        with torch.inference_mode():
            self._run_all(parts, requests, encoder, answers)
        for i, answer in answers.items():
            rows[i] = answer.row(requests[i], self.backbone.members)
        return [rows[i] for i in range(len(requests))]

    def _run_all(
        self,
        parts: list[Part],
        requests: Sequence[Request],
        encoder: ImageEncoder,
        answers: dict[int, Answers],
    ) -> None:
        """Micro-batch by micro-batch; where memory runs out, the budget is halved for good."""
        lengths = [len(p.sequence) for p in parts]
        left = list(range(len(parts)))
        while left:
            planned = micro_batches([lengths[i] for i in left], self.token_budget)
            batches = [[left[i] for i in indices] for indices in planned]
            done: set[int] = set()
            for batch in batches:
                try:
                    self._run([parts[i] for i in batch], requests, encoder, answers)
                except torch.OutOfMemoryError:
                    if len(batch) == 1:
                        raise  # the budget is not what is too large
                    longest = max(lengths[i] for i in batch)
                    self.token_budget = max(1, longest * len(batch) // 2)
                    break
                done.update(batch)
            left = [i for i in left if i not in done]
            if left:  # outside of the handler, which holds on to what did not fit
                torch.cuda.empty_cache()

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

    def _run(
        self,
        parts: Sequence[Part],
        requests: Sequence[Request],
        encoder: ImageEncoder,
        answers: dict[int, Answers],
    ) -> None:
        backbone = self.backbone
        batch = collate([p.sequence for p in parts], backbone.device)
        owners_A = [
            (part.request, part.first_question + q)
            for part in parts
            for q in range(len(part.sequence.answers))
        ]
        total_A = [a for a, (_, question) in enumerate(owners_A) if question == 0]
        element_A = [a for a, (_, question) in enumerate(owners_A) if question > 0]
        images = [requests[p.request].image for p in parts]
        for m, member in enumerate(backbone.members):
            backbone.select(member)
            features_VD = encoder(images, m)
            hidden_AD = backbone.answer_hidden(features_VD, batch)
            logits_AV = backbone.logits(hidden_AD, self.packer.level_ids)
            total = level_distribution(
                logits_AV[total_A],
                self.packer.total_ids,
                self.total_levels.values,
                self.config.normalization,
            )
            columns = (total.probs_BK, total.expected_B, total.mass_B, total.entropy_B)
            for a, *values in zip(
                total_A, *(c.double().cpu().numpy() for c in columns), strict=True
            ):
                answer = answers[owners_A[a][0]]
                answer.level_probs_MK[m], answer.score_M[m] = values[0], values[1]
                answer.mass_M[m], answer.entropy_M[m] = values[2], values[3]
            elements = level_distribution(
                logits_AV[element_A],
                self.packer.element_ids,
                self.element_levels.values,
                self.config.normalization,
            )
            expected = elements.expected_B.double().cpu().numpy()
            for a, value in zip(element_A, expected, strict=True):
                i, question = owners_A[a]
                answers[i].element_ME[m, question - 1] = value
