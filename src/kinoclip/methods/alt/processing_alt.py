"""The processor of ALT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.entities import Entity
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES
from kinoclip.text.tokens import tokenize_texts


class AltProcessor(RecognizerProcessor):
    """Labels, entities of a corpus, and files to the inputs of ALT."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "AltProcessor"}
    # the paper's "handcraft templates" are not listed; these 16 are the ones usually meant
    default_templates: ClassVar[tuple[str, ...]] = ACTIONCLIP_TEMPLATES
    default_sampling: ClassVar[str] = "segment_center"

    def encode_entities(self, entities: Iterable[Entity | str]) -> dict[str, Tensor]:
        """Make input_ids (1, K, L) of entities, or of texts; what is too long is cut at the end.

        Args:
            entities: read as "{unit}: {description}", or plain texts.

        Raises:
            ValueError: there are none.
        """
        texts = [entity if isinstance(entity, str) else entity.text for entity in entities]
        if not texts:
            raise ValueError("The corpus has no entities. Give at least one, or another choice of corpus_categories.")
        ids, _ = tokenize_texts(self.tokenizer, texts, context_length=self.context_length, too_long="truncate")
        return {"input_ids": ids[None]}
