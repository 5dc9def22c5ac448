"""The reference: one plain transformers forward for each question, with no code of ours.

Chat markup and wording are spelled out here once more, the text is tokenised in one piece, the
image goes through the family's own processor, and the model finds its own position ids. Whoever
changes the wording on purpose changes it here too.

Legend: Q questions, V vocabulary, K levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.support.samples import Sample

TOTAL_WORDS, TOTAL_VALUES = ("1", "2", "3", "4", "5"), (1.0, 2.0, 3.0, 4.0, 5.0)
ELEMENT_WORDS, ELEMENT_VALUES = ("No", "Yes"), (0.0, 1.0)
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"


def text_after_image(sample: Sample, structure: bool = True) -> list[str]:
    """The user's turn after the image, one text for each question, the total question first."""
    text = f"Text prompt: {sample.prompt}\n"
    if structure and sample.prompt_type:
        text += f"Prompt type: {sample.prompt_type}\n"
    if structure and sample.elements:
        text += "Elements:\n" + "".join(f"{label}\n" for label in sample.elements)
    total = "How well does the image match the text prompt? Answer 1, 2, 3, 4 or 5."
    elements = [f"Does the image show {e}? Answer No or Yes." for e in sample.elements]
    return [text + question for question in (total, *elements)]


@dataclass(frozen=True)
class ExpectedRow:
    """A row computed in float64 from reference logits."""

    score: float
    level_probs_K: NDArray[np.float64]
    level_mass: float
    entropy: float
    element_scores: NDArray[np.float64]


class PlainModel:
    """A transformers model with its tokenizer and image processor, as its family ships them."""

    def __init__(
        self,
        folder: str | Path,
        *,
        adapter: str | Path | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Loads a folder, and one peft adapter around it where given.

        Attention is eager, so that the comparison covers the attention kernel and its mask too.
        """
        kind = transformers.AutoConfig.from_pretrained(folder).model_type
        self.is_qwen = kind == "qwen2_5_vl"
        families: dict[str, tuple[Any, Any]] = {
            "qwen2_5_vl": (
                transformers.Qwen2_5_VLForConditionalGeneration,
                Qwen2VLImageProcessorPil,
            ),
            "internvl": (transformers.InternVLForConditionalGeneration, GotOcr2ImageProcessorPil),
        }
        cls, processor = families[kind]
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.processor = processor.from_pretrained(folder)
        model: Any = cls.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
        self.config = model.config
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
        self.model = model.to(device).eval()
        self.device, self.dtype = device, dtype

    def inputs(self, sample: Sample, after_image: str) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model's forward for one question."""
        image = Image.fromarray(sample.image_HWC)
        if self.is_qwen:
            out = self.processor(images=image, return_tensors="pt")
            n_tokens = int(out["image_grid_thw"].prod()) // 4
            text = (
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
                "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * n_tokens + "<|vision_end|>"
            )
        else:
            out = self.processor(images=image, return_tensors="pt", crop_to_patches=True)
            n_tokens = len(out["pixel_values"]) * self.config.image_seq_length
            text = "<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * n_tokens + "</img>\n"
        ids = self.tokenizer(text + after_image + ANSWER, return_tensors="pt")["input_ids"]
        inputs = {"input_ids": ids, "pixel_values": out["pixel_values"].to(self.dtype)}
        if self.is_qwen:
            inputs["image_grid_thw"] = out["image_grid_thw"]
            inputs["mm_token_type_ids"] = (ids == self.config.image_token_id).int()
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def logits(self, sample: Sample, structure: bool = True) -> NDArray[np.float64]:
        """Logits at the last position: [Q, V], one forward for each question."""
        rows = []
        with torch.inference_mode():
            for text in text_after_image(sample, structure):
                logits_1TV = self.model(**self.inputs(sample, text)).logits
                rows.append(logits_1TV[0, -1].double().cpu().numpy())
        return np.stack(rows)

    def level_ids(self, words: Sequence[str]) -> list[int]:
        """The last token of each whole answered text."""
        return [self.tokenizer(f"Sky?{ANSWER}{word}")["input_ids"][-1] for word in words]

    def row(self, logits_QV: NDArray[np.float64]) -> ExpectedRow:
        """What a row must say, by float64 softmax."""
        total = distribution(logits_QV[:1], self.level_ids(TOTAL_WORDS), TOTAL_VALUES, "logits")
        elements = distribution(
            logits_QV[1:], self.level_ids(ELEMENT_WORDS), ELEMENT_VALUES, "logits"
        )
        return ExpectedRow(
            score=float(total["expected_B"][0]),
            level_probs_K=total["probs_BK"][0],
            level_mass=float(total["mass_B"][0]),
            entropy=float(total["entropy_B"][0]),
            element_scores=elements["expected_B"],
        )


def distribution(
    logits_BV: NDArray[np.float64], ids: Sequence[int], values: Sequence[float], normalization: str
) -> dict[str, NDArray[np.float64]]:
    """The paper's equations word for word: vocabulary probabilities first, then the levels."""
    p_BV = scipy.special.softmax(logits_BV, axis=-1)
    p_BK = p_BV[:, list(ids)]
    if normalization == "probs":
        probs_BK = scipy.special.softmax(p_BK, axis=-1)
    else:
        probs_BK = p_BK / p_BK.sum(axis=-1, keepdims=True)
    return {
        "probs_BK": probs_BK,
        "expected_B": (probs_BK * np.array(values)).sum(axis=-1),
        "mass_B": p_BK.sum(axis=-1),
        "entropy_B": scipy.stats.entropy(probs_BK, axis=-1),
    }
