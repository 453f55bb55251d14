"""The processor of ActionCLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES, fill_template
from kinoclip.text.tokens import tokenize_texts


class ActionClipProcessor(RecognizerProcessor):
    """Labels and files to the inputs of ActionCLIP: each label under 16 templates, and videos."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "ActionClipProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = ACTIONCLIP_TEMPLATES
    default_sampling: ClassVar[str] = "segment_center"

    def encode_captions(self, labels: Sequence[str], generator: torch.Generator) -> dict[str, Tensor]:
        """Put the label of each video of a training batch into one template drawn at random: input_ids (1, B, L).

        Args:
            labels: one for each video; a label may come several times, and then under several templates.
            generator: where the templates are drawn from.

        Raises:
            ValueError: a label is too long for the text tower.

        Source: official `train.py`: `numpy.random.randint` over the templates, one draw for each video.
        """
        drawn = torch.randint(len(self.templates), (len(labels),), generator=generator).tolist()
        texts = [fill_template(self.templates[i], label) for i, label in zip(drawn, labels, strict=True)]
        ids, _ = tokenize_texts(self.tokenizer, texts, labels=labels, context_length=self.context_length)
        return {"input_ids": ids[None]}
