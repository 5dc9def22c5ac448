"""What packing buys: all questions about an image in one forward, against the two usual ways.

In one run, with the same weights and the same questions (the total and six elements an image):

(a) pair loop: one plain transformers forward a pair and question, as the usual
    `model(**inputs).logits[0, -1]` does it, so with logits at every position;
(b) batched: one plain transformers forward a question, images batched and padded on the left,
    logits computed at the last position only;
(c) packed: ours, everything that a user waits for after the images are prepared: prompts, packing,
    forward, distributions, rows.

The token ids and patches of the peers are made before the clock starts. The vocabulary has the size
of Qwen2.5's, so the head is most of so small a model: the ratio to (a), which runs it at every
position, grows with its share. Prints a table and, as its last line, one flat JSON object.

    python benchmarks/packing.py [--images 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tokenfocus_ray.backbones import registry
from tokenfocus_ray.backbones.base import Source
from tokenfocus_ray.backbones.images import PreparedImage
from tokenfocus_ray.backbones.qwen2_5_vl import Qwen25VL, QwenImageSpec
from tokenfocus_ray.config import ScoringConfig
from tokenfocus_ray.schema import Element
from tokenfocus_ray.scoring.request import Request
from tokenfocus_ray.scoring.scorer import AlignmentScorer

SIDE = 336
VOCABULARY_SIZE = 151_936  # Qwen2.5's
PROMPTS = (
    "two small red circles above one large striped blue square, grass background",
    "one dotted yellow star left of three green triangles, with one black heart, sand background",
)
ELEMENTS = (
    Element("circle", "object"),
    Element("red circle", "color"),
    Element("two circles", "counting"),
    Element("striped square", "material"),
    Element("circle above square", "spatial"),
    Element("grass background", "location"),
)
TOTAL_VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def mid_size_scorer() -> AlignmentScorer:
    """A Qwen2.5-VL of about 70 million random weights behind the tiny backbone's tokenizer."""
    from transformers import AutoTokenizer

    tiny = registry.resolve("tiny-qwen2_5_vl")
    tokenizer = AutoTokenizer.from_pretrained(tiny.location)
    special: Any = tokenizer.convert_tokens_to_ids  # of one token: one id
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [8, 12, 12],
            },
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": special("<|im_end|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 384,
            "intermediate_size": 1024,
            "num_heads": 6,
            "out_hidden_size": 384,
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [2],
        },
        image_token_id=special("<|image_pad|>"),
        vision_start_token_id=special("<|vision_start|>"),
        vision_end_token_id=special("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    spec = QwenImageSpec(min_pixels=SIDE * SIDE, max_pixels=SIDE * SIDE)
    source = Source("mid-size", "", "qwen2_5_vl", "random")
    return AlignmentScorer(
        Qwen25VL(model, tokenizer, spec, source), ScoringConfig(backbone="mid-size")
    )


class Peer:
    """Plain transformers forwards over inputs made beforehand."""

    def __init__(self, scorer: AlignmentScorer, requests: list[Request]) -> None:
        self.model = scorer.backbone.model
        self.tokenizer = scorer.backbone.tokenizer
        markup, template = scorer.backbone.markup, scorer.template
        self.image_token = scorer.backbone.model.config.image_token_id
        spec = scorer.backbone.image_spec
        assert isinstance(spec, QwenImageSpec)
        self.patches, self.grids, self.ids = [], [], []
        for r in requests:
            image = r.image
            assert isinstance(image, PreparedImage)
            pixels = spec.normalization(image.tiles_NHWC, torch.device("cpu"))
            patches, grid = spec.patchify(pixels[0])
            self.patches.append(patches)
            self.grids.append(grid)
            prefix = template.prefix(r.prompt or "", ELEMENTS, r.prompt_type)
            image_text = "<|image_pad|>" * image.n_visual_tokens
            head = markup.before_image + image_text + markup.after_image + prefix
            self.ids.append(
                [
                    self.tokenizer(head + q + markup.before_answer)["input_ids"]
                    for q in template.questions(ELEMENTS)
                ]
            )
        digits, words = "12345", ("No", "Yes")
        self.total_ids = [self.tokenizer(d)["input_ids"][0] for d in digits]
        self.element_ids = [self.tokenizer(w)["input_ids"][0] for w in words]

    def forward(self, images: range, question: int, last_only: bool) -> list[float]:
        """One forward: some images, one question each; logits at the last or at every position."""
        rows = [self.ids[i][question] for i in images]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            mm_token_type_ids=(ids == self.image_token).int(),
            pixel_values=torch.cat([self.patches[i] for i in images]),
            image_grid_thw=torch.tensor([self.grids[i] for i in images]),
            use_cache=False,
            logits_to_keep=1 if last_only else 0,
        )
        logits = out.logits[:, -1].float()
        if question == 0:
            expected = logits[:, self.total_ids].softmax(-1) @ TOTAL_VALUES
        else:
            expected = logits[:, self.element_ids].softmax(-1)[:, 1]
        return [float(value) for value in expected]

    def scores(self, batch_size: int, last_only: bool) -> list[list[float]]:
        """[image][question] with so many images a forward."""
        n = len(self.ids)
        out: list[list[float]] = [[] for _ in range(n)]
        for question in range(len(ELEMENTS) + 1):
            for start in range(0, n, batch_size):
                images = range(start, min(n, start + batch_size))
                for i, value in zip(images, self.forward(images, question, last_only), strict=True):
                    out[i].append(value)
        return out


def timed(run: Callable[[], list[list[float]]]) -> tuple[float, list[list[float]]]:
    """Seconds and result of one run."""
    started = time.perf_counter()
    with torch.inference_mode():
        result = run()
    return time.perf_counter() - started, result


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8, help="images a forward in (b)")
    args = parser.parse_args()
    scorer = mid_size_scorer()
    rng = np.random.default_rng(0)
    requests = [
        Request(
            str(i),
            PROMPTS[i % len(PROMPTS)],
            scorer.backbone.image_spec.prepare(
                rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            ),
            ELEMENTS,
            "synthetic",
        )
        for i in range(args.images)
    ]
    peer = Peer(scorer, requests)

    def packed() -> list[list[float]]:
        return [[row.score, *row.element_scores] for row in scorer.score_requests(requests)]

    ways = {
        "pair_loop": lambda: peer.scores(1, last_only=False),
        "batched": lambda: peer.scores(args.batch_size, last_only=True),
        "packed": packed,
    }
    for run in ways.values():
        timed(run)  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, list[list[float]]] = {}
    for _ in range(args.rounds):  # in turn, so that a drift of the machine meets all three
        for name, run in ways.items():
            took, results[name] = timed(run)
            seconds[name].append(took)
    rate = {name: args.images / statistics.median(took) for name, took in seconds.items()}
    difference = max(
        float(np.abs(np.array(results[name]) - np.array(results["packed"])).max())
        for name in ("pair_loop", "batched")
    )
    n_parameters = sum(p.numel() for p in scorer.backbone.model.parameters())
    print(
        f"{n_parameters / 1e6:.0f}M parameters, {SIDE} px, total + {len(ELEMENTS)} elements, "
        f"{args.images} images, median of {args.rounds} rounds, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, {platform.machine()}"
    )
    print(f"{'way':<12}{'images/s':>10}{'spread':>20}")
    for name, rounds in seconds.items():
        spread = f"{args.images / max(rounds):.3f} .. {args.images / min(rounds):.3f}"
        print(f"{name:<12}{rate[name]:>10.3f}{spread:>20}")
    figures = {
        "images_per_s_pair_loop": rate["pair_loop"],
        "images_per_s_batched": rate["batched"],
        "images_per_s_packed": rate["packed"],
        "speedup_vs_batched": rate["packed"] / rate["batched"],
        "speedup_vs_pair_loop": rate["packed"] / rate["pair_loop"],
        "max_abs_score_diff": difference,
    }
    print(json.dumps({k: float(f"{v:.4g}") for k, v in figures.items()}))


if __name__ == "__main__":
    main()
