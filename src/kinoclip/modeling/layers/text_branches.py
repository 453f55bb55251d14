"""Further text branches of a recognizer on CLIP: attributes of the video, and second names of the candidates."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    BertTokenizer,
    ChineseCLIPModel,
    ChineseCLIPTextModel,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedConfig,
)
from transformers import initialization as init

from kinoclip.modeling.layers.text_features import end_of_text
from kinoclip.text.tokens import tokenize_texts


class AttributesBranch(nn.Module):
    """Match the sentence of a video's attributes with the candidates.

    Source: BIKE sec. 2.2; official `modules/video_clip.py`, `sentence_text_logit`.
    """

    def __init__(self, config: Any):
        super().__init__()
        width = config.projection_dim
        if config.attributes == "own":
            width = config.attribute_projection_dim or width
            self.text_model = CLIPTextModel._from_config(config.attribute_text_config)
            self.text_projection = nn.Linear(config.attribute_text_config.hidden_size, width, bias=False)
        if config.attribute_head == "mlp":
            self.sentence_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.query_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        else:
            self.sentence_fc = self.query_fc = nn.Identity()
            self.logit_scale = None  # untrained, the branch is scaled as CLIP is

    def encode(self, input_ids: Tensor) -> Tensor:
        """Encode texts (N, L) with the branch's own tower: (N, E), not unit length."""
        return self.text_projection(self.text_model(input_ids=input_ids).pooler_output)

    def forward(self, sentences: Tensor, candidates: Tensor) -> Tensor:
        """Score attribute sentences (B, E) against candidates (K, E), unscaled: (B, K)."""
        sentences = normalize(self.sentence_fc(normalize(sentences, dim=-1)), dim=-1)
        return sentences @ normalize(self.query_fc(normalize(candidates, dim=-1)), dim=-1).T

    @torch.no_grad()
    def initialize(self, clip: Any) -> None:
        """Initialize the weights that no checkpoint filled.

        The temperature starts as that of the CLIP that holds the branch, as in the official code, and an own text tower of
        the same size as a copy of its text tower.
        """
        std = clip.config.initializer_range
        if self.logit_scale is not None:
            init.copy_(self.logit_scale, clip.logit_scale)
        for layer in (*self.sentence_fc.children(), *self.query_fc.children()):
            if isinstance(layer, nn.Linear):
                init.normal_(layer.weight, std=std)
                init.zeros_(layer.bias)
        if clip.config.attributes != "own":
            return
        own, source = _tower(self), {} if clip.text_model is None else _tower(clip)
        if {name: t.shape for name, t in own.items()} == {name: t.shape for name, t in source.items()}:
            for name, tensor in own.items():
                init.copy_(tensor, source[name])
        else:
            init.normal_(self.text_projection.weight, std=std)


def _tower(model: Any) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if name.startswith(("text_model.", "text_projection."))}


class ChineseBranch(nn.Module):
    """Encode second names of the candidates with Chinese-CLIP's text tower; the base class of `SECOND_TOWERS`.

    Source: DSTPR sec. 3.4; Chinese-CLIP: the [CLS] position of the last layer, projected.
    """

    title: ClassVar[str] = "Chinese-CLIP"
    models: ClassVar[dict[str, Any]] = {"chinese_clip": ChineseCLIPModel}  # that have this tower, by model type
    config_name: ClassVar[str] = "chinese_text_config"  # field of the tower in the recognizer's config
    tokenizer_class: ClassVar[Any] = BertTokenizer  # None: the names are read by the recognizer's own tokenizer

    def __init__(self, config: Any):
        super().__init__()
        self.text_model = ChineseCLIPTextModel._from_config(config.chinese_text_config, add_pooling_layer=False)
        self.text_projection = nn.Linear(config.chinese_text_config.hidden_size, config.projection_dim, bias=False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; the tower is frozen, so its dropout stays off."""
        super().train(mode)
        for tower in self.children():
            tower.eval()
        return self

    def read(self, tower: Any, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state (N, W) that stands for each text (N, L), those of all words (N, L, W), and which are not padding."""
        present = input_ids != tower.text_model.config.pad_token_id
        # a row of padding attends to its first position
        first = torch.arange(input_ids.shape[1], device=input_ids.device) == 0
        states = tower.text_model(input_ids, attention_mask=(present | first).long()).last_hidden_state
        return states[:, 0], states, present

    def tower(self, clip: Any) -> Any:
        """Return what holds the text tower and its projection, this branch or the recognizer `clip` around it."""
        return self

    def forward(self, input_ids: Tensor, clip: Any = None) -> tuple[Tensor, Tensor]:
        """Encode texts (N, L) of `tokenize`.

        Returns:
            (N, D), not unit length, and (N, 1): one for a text, zero for a row of padding, a candidate without a name.
        """
        tower = self.tower(clip)
        state, _, present = self.read(tower, input_ids)
        names = tower.text_projection(state)
        return names, present.any(1, keepdim=True).to(names.dtype)

    def encode_words(self, input_ids: Tensor, clip: Any) -> tuple[Tensor, Tensor]:
        """Encode each word of texts (N, L): (N, L, D), and where they are not padding (N, L)."""
        tower = self.tower(clip)
        _, states, present = self.read(tower, input_ids)
        return tower.text_projection(states), present

    @staticmethod
    def tokenize(tokenizer: Any, texts: Sequence[str], labels: Sequence[str], length: int) -> tuple[Tensor, int]:
        """Tokenize the texts of labels: ids (N, L), and the id of padding."""
        ids = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)["input_ids"]
        return torch.tensor(ids), tokenizer.pad_token_id

    @classmethod
    def load(cls, source: str) -> Any:
        """Load a trained model with this text tower, a folder or hub id."""
        if not cls.models:
            raise ValueError(f"This text tower has no weights of its own. Leave {source} out.")
        found = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
        if found not in cls.models:
            raise ValueError(f"{source} is not a {cls.title} checkpoint. Name a folder or hub id of one.")
        return cls.models[found].from_pretrained(source, dtype=torch.float32)


class ClipBranch(ChineseBranch):
    """Encode second names with the text tower of another CLIP, such as one that was trained in their language."""

    title = "CLIP"
    models = {"clip": CLIPModel, "clip_text_model": CLIPTextModelWithProjection}
    config_name = "second_text_config"
    tokenizer_class = CLIPTokenizer

    def __init__(self, config: Any):
        nn.Module.__init__(self)
        self.text_model = CLIPTextModel._from_config(config.second_text_config)
        self.text_projection = nn.Linear(config.second_text_config.hidden_size, config.projection_dim, bias=False)

    def read(self, tower: Any, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state of the end of each text (N, W), those of all words (N, L, W), and which are of a text (N, L)."""
        output = tower.text_model(input_ids=input_ids)
        end = end_of_text(input_ids, tower.text_model.config.eos_token_id)[:, None]
        present = torch.arange(input_ids.shape[1], device=input_ids.device) <= end
        return output.pooler_output, output.last_hidden_state, present & (input_ids != 0).any(1, keepdim=True)

    @staticmethod
    def tokenize(tokenizer: Any, texts: Sequence[str], labels: Sequence[str], length: int) -> tuple[Tensor, int]:
        """Tokenize the texts of labels: ids (N, L), and the id of padding."""
        return tokenize_texts(tokenizer, texts, labels=labels, context_length=length)[0], 0


class SharedBranch(ClipBranch):
    """Encode second names with the recognizer's own text tower: a paraphrase, or a language that its tokenizer reads."""

    models = {}
    config_name = "text_config"
    tokenizer_class = None

    def __init__(self, config: Any):
        nn.Module.__init__(self)

    def tower(self, clip: Any) -> Any:
        """Return the recognizer."""
        return clip


# value of `second_tower` to the branch that reads second names
SECOND_TOWERS: dict[str, type[ChineseBranch]] = {
    "chinese_clip": ChineseBranch,
    "shared": SharedBranch,
    "clip": ClipBranch,
}


def find_second_tower(name: str) -> type[ChineseBranch]:
    """Return a row of `SECOND_TOWERS`; raise a `ValueError` if it is unknown."""
    if name not in SECOND_TOWERS:
        raise ValueError(f"second_tower must be one of {', '.join(SECOND_TOWERS)}, got {name!r}.")
    return SECOND_TOWERS[name]


def candidates_without_name(branches: Mapping[str, Tensor]) -> Tensor:
    """Return which candidates have no second name: (K,) bool."""
    if "chinese_named" in branches:
        return branches["chinese_named"][0, :, 0] == 0
    return (branches["chinese"] == 0).all(-1).all(0)  # features saved before there was a mask


def complete_votes(chinese: Tensor, english: Tensor, missing: Tensor) -> Tensor:
    """Replace the second votes (B, K) for candidates without a second name, `missing` (K,), by the English ones (B, K).

    The two languages score on different levels. So that a missing name is neither an advantage nor a disadvantage, the English
    vote is shifted by the mean difference of the two languages over the other candidates of the same video.
    """
    named = (~missing).to(chinese.dtype)
    level = ((chinese - english).detach() * named).sum(1, keepdim=True) / named.sum().clamp_min(1)
    return torch.where(missing, english + level, chinese)
