"""Recognizers that are a CLIP model: same parameter names, so any CLIP checkpoint fills both towers."""

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel
from transformers import initialization as init

from kinoclip.clip_recognizer_config import ClipRecognizerConfig
from kinoclip.components.attention_maps import map_attention
from kinoclip.components.class_token import replace_last_layer
from kinoclip.components.text_branches import (
    AttributesBranch,
    ChineseBranch,
    complete_votes,
    read_chinese_clip,
    without_name,
)
from kinoclip.components.text_features import end_of_text, ensemble
from kinoclip.components.token_merging import ImageTokens, encode_images, merge_tokens_in
from kinoclip.conversion import clip_to_transformers, infer_clip_config, naming, read_checkpoint
from kinoclip.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer

# prompts encoded at once: 400 prompts in one piece need 3 GB and are slower
_TEXT_CHUNK = 64


class ClipRecognizer(VideoRecognizer, CLIPModel):
    """A `CLIPModel` that recognizes videos; methods build on it."""

    config: ClipRecognizerConfig
    config_class = ClipRecognizerConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    _no_split_modules = [
        *("CLIPEncoderLayer", "LastLayer", "MergingLayer", "TemporalShiftLayer"),
        *("CLIPTextEmbeddings", "CLIPVisionEmbeddings"),
    ]
    branch_inputs: ClassVar[tuple[str, ...]] = ("attribute_input_ids",)
    text_inputs: ClassVar[tuple[str, ...]] = ("chinese_input_ids",)
    # whether the method reads every position of the text, or its end only
    reads_words = False

    def __init__(self, config: ClipRecognizerConfig):
        super().__init__(config)
        replace_last_layer(self.vision_model)
        if config.merge_r:
            merge_tokens_in(self.vision_model, config.merge_r, config.prop_attn)
        self.attributes = None if config.attributes == "none" else AttributesBranch(config)
        self.chinese = ChineseBranch(config) if config.chinese_branch else None
        if not config.text_tower:
            self.drop_text_tower()
        self._register_candidates()

    @classmethod
    def from_clip(cls, clip: str | Path, *, dtype: torch.dtype | None = torch.float32, **fields: Any) -> Self:
        """Build the method on a trained CLIP; exactly the method's own modules are left to initialize.

        Args:
            clip: a CLIP folder or hub id in the Transformers layout, or a file in OpenAI's layout.
            dtype: of the weights; None keeps the checkpoint's.
            fields: config fields of the method.

        Raises:
            ValueError: the checkpoint is no CLIP, or lacks some of its weights, or is a file that holds others too.
        """
        if Path(clip).is_file():
            state = read_checkpoint(clip)
            config = cls.config_class.from_clip_config(infer_clip_config(state), **fields)
            source: dict[str, Any] = {"state_dict": clip_to_transformers(state)}
            origin = None
        else:
            with naming(f"{clip}/config.json"):
                clip_config = CLIPConfig.from_pretrained(clip)
            if CLIPConfig.get_config_dict(clip)[0].get("model_type") != "clip":
                raise ValueError(f"{clip} is no CLIP checkpoint. Give a CLIP folder, hub id or OpenAI-layout file.")
            config = cls.config_class.from_clip_config(clip_config, **fields)
            source, origin = {}, str(clip)
        model: Self
        report: dict[str, Any]
        with naming(f"The weights in {clip}"):
            model, report = cls.from_pretrained(origin, config=config, dtype=dtype, output_loading_info=True, **source)
        clip_names = {name for name, _ in _clip_skeleton(config).named_parameters()}
        missing = sorted(set(report["missing_keys"]) & clip_names)
        if missing:
            raise ValueError(f"{clip} lacks {len(missing)} weights of CLIP, first {missing[0]}. Is the file whole?")
        unknown = sorted(report["unexpected_keys"]) if origin is None else []
        if unknown:
            raise ValueError(f"{clip} holds {len(unknown)} weights that CLIP does not have, first {unknown[0]}.")
        return model

    @property
    def frame_width(self) -> int:
        """D, the width of the shared space."""
        return self.config.projection_dim

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the vision tower looks at one frame at a time, as CLIP's does."""
        return True

    def drop_text_tower(self) -> Self:
        """Leave out the text tower: the candidates that the checkpoint carries are then the only ones."""
        self.text_model = None
        self.text_projection = None
        self.chinese = None
        self.config.text_tower = False
        return self

    def load_chinese(self, source: str | Path) -> Self:
        """Take the text tower of a trained Chinese-CLIP as the Chinese branch, with or without one so far.

        Args:
            source: a folder or hub id in the Transformers layout, such as "OFA-Sys/chinese-clip-vit-base-patch16".

        Raises:
            ValueError: it is no Chinese-CLIP, or its shared space has another width.
        """
        trained = read_chinese_clip(str(source), self.config.projection_dim)
        self.config.chinese_text_config = trained.config.text_config
        self.config.chinese_branch = True
        self.config.complete_fusion()
        self.chinese = ChineseBranch(self.config).to(self.device, self.dtype).train(self.training)
        self.chinese.text_model.load_state_dict(trained.text_model.state_dict())
        self.chinese.text_projection.load_state_dict(trained.text_projection.state_dict())
        return self

    def load_attribute_clip(self, source: str | Path) -> Self:
        """Take the text tower and the temperature of a trained CLIP for the attributes branch, whose MLPs start again.

        Args:
            source: a folder or hub id in the Transformers layout, or a file in OpenAI's layout.

        Raises:
            ValueError: the source is not a complete CLIP checkpoint.

        Source: official BIKE `train_attributes.py`, which builds the branch from CLIP, not from the trained video branch.
        """
        fields = {name: getattr(self.config, name) for name in ("attribute_head", "initializer_range")}
        trained = ClipRecognizer.from_clip(source, attributes="own", **fields)
        for name in ("attributes", "attribute_text_config"):
            setattr(self.config, name, getattr(trained.config, name))
        self.config.attribute_projection_dim = trained.config.projection_dim
        self.config.complete_fusion()
        self.attributes = trained.attributes.to(self.device, self.dtype).train(self.training)
        return self

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame with CLIP's vision tower: (B, T, 3, H, W) -> embeds (B, T, D), not unit length."""
        shape = pixel_values_videos.shape[:2]
        images = self.encode_images(pixel_values_videos.flatten(0, 1), class_token_only=True)
        regions = None if images.regions is None else images.regions.unflatten(0, shape)
        return FrameFeatures(embeds=self.visual_projection(images.pooler_output).unflatten(0, shape), regions=regions)

    def encode_images(self, pixel_values: Tensor, **kwargs: Any) -> ImageTokens:
        """Run the vision tower over images (N, 3, H, W), with merging if the config says so; `kwargs` reach its layers."""
        return encode_images(self.vision_model, pixel_values, **kwargs)

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        *,
        chinese_input_ids: Tensor | None = None,
    ) -> TextFeatures:
        """Encode the candidates with CLIP's text tower: (P, K, L) -> embeds (P, K, D), words (K, P*L, D).

        Further branches encode them with their own towers; `chinese_input_ids` (P', K, L') are their Chinese names.

        Raises:
            ValueError: the text tower was dropped, or Chinese names are given to a model without a branch for them.
        """
        if self.text_model is None:
            raise ValueError(
                "This checkpoint was saved without its text tower: it knows only its own candidates. "
                "Use a checkpoint with a text tower for other labels."
            )
        templates, num_candidates = input_ids.shape[:2]
        pooled, tokens = self._read_texts(
            input_ids.flatten(0, 1), None if attention_mask is None else attention_mask.flatten(0, 1)
        )
        features = TextFeatures(embeds=self.text_projection(pooled).unflatten(0, (templates, num_candidates)))
        if tokens is not None:
            words = self.text_projection(tokens).unflatten(0, (templates, num_candidates))
            features.words = words.transpose(0, 1).flatten(1, 2)
            if word_mask is not None:
                features.word_mask = word_mask.transpose(0, 1).flatten(1, 2).bool()
        features.branches = self._encode_branches(input_ids, chinese_input_ids)
        return features

    def _read_texts(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Read texts (N, L): what stands at their end (N, D), and at each token (N, L, D) if the method reads words.

        The causal mask makes what follows the end-of-text token irrelevant. Where only that token is read, texts are read
        shortest first, each chunk no longer than its longest; a graph cannot depend on where the ends are.
        """
        order = None
        if not self.reads_words and not torch.compiler.is_compiling():
            lengths = end_of_text(input_ids, self.config.text_config.eos_token_id) + 1
            order = lengths.argsort(stable=True)
            input_ids, attention_mask = input_ids[order], None if attention_mask is None else attention_mask[order]
        chunks = input_ids.split(_TEXT_CHUNK)
        masks = [None] * len(chunks) if attention_mask is None else attention_mask.split(_TEXT_CHUNK)
        if order is not None:
            longest = [int(chunk[-1]) for chunk in lengths[order].split(_TEXT_CHUNK)]
            chunks = [chunk[:, :length] for chunk, length in zip(chunks, longest, strict=True)]
            masks = [m if m is None else m[:, :length] for m, length in zip(masks, longest, strict=True)]
        outputs = [self.text_model(input_ids=i, attention_mask=m) for i, m in zip(chunks, masks, strict=True)]
        pooled = torch.cat([output.pooler_output for output in outputs])
        words = torch.cat([output.last_hidden_state for output in outputs]) if self.reads_words else None
        return (pooled if order is None else pooled[order.argsort()]), words

    def _encode_branches(self, input_ids: Tensor, chinese_input_ids: Tensor | None) -> dict[str, Tensor] | None:
        """Encode the candidates for the branches that have a text tower of their own: name -> (P, K, E)."""
        branches = {}
        if self.config.attributes == "own":
            branches["attributes"] = self.attributes.encode(input_ids.flatten(0, 1)).unflatten(0, input_ids.shape[:2])
        if chinese_input_ids is not None:
            if self.chinese is None:
                raise ValueError(
                    f"This {type(self).__name__} has no Chinese branch. Build it with chinese_branch=True, or `load_chinese`."
                )
            rows = torch.cat([self.chinese(ids) for ids in chinese_input_ids.flatten(0, 1).split(_TEXT_CHUNK)])
            branches["chinese"] = rows.unflatten(0, chinese_input_ids.shape[:2])
        return branches or None

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Give the cosine of each video (B, D) and candidate, templates averaged: (B, K)."""
        return normalize(video, dim=-1) @ ensemble(text.embeds).T

    def branches(
        self, video: Tensor | None, text: TextFeatures, attribute_input_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Vote by video, by the candidates' Chinese names where they were encoded, and by attributes (B, L) if given.

        A candidate without a Chinese name keeps its English score, see `complete_votes`.

        Raises:
            ValueError: attributes are given to a model without a branch for them, or the text tower they need is gone,
                or the text features are another model's.
        """
        votes = super().branches(video, text)
        if video is not None and text.branches is not None and "chinese" in text.branches:
            votes["chinese"] = self._vote_in_chinese(video, votes["video"], text, text.branches["chinese"])
        if attribute_input_ids is not None:
            votes["attributes"] = self._vote_by_attributes(attribute_input_ids, text)
        return votes

    def _vote_in_chinese(self, video: Tensor, english: Tensor, text: TextFeatures, names: Tensor) -> Tensor:
        """Score by Chinese names (P, K, D), and candidates without one by their English votes (B, K): (B, K)."""
        missing = without_name(names)
        # a vector of zeros has no direction, so the English name stands in until its vote is replaced
        filled = torch.where(missing[:, None], ensemble(text.embeds), names)
        return complete_votes(self.match(video, TextFeatures(embeds=filled)), english, missing)

    def _vote_by_attributes(self, input_ids: Tensor, text: TextFeatures) -> Tensor:
        if self.attributes is None:
            raise ValueError(
                f'This {type(self).__name__} has no attributes branch. Build it with attributes="shared" or "own".'
            )
        if self.config.attributes == "own":
            if text.branches is None or "attributes" not in text.branches:
                raise ValueError("These text_features lack the attributes branch. Make them with this model.")
            return self.attributes(self.attributes.encode(input_ids), ensemble(text.branches["attributes"]))
        return self.attributes(ClipRecognizer.encode_text(self, input_ids[None]).embeds[0], ensemble(text.embeds))

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Give saliency, the regions of merged patches, what each language votes, and for pixels attention maps."""
        explanation = super().explain(frames, text)
        if frames.regions is not None:
            explanation.regions = self._split_rows(frames.regions)
        if text.branches is not None and "chinese" in text.branches:
            video = self.aggregate(frames, text)
            logits = self.scale_votes(self.branches(video, text), video, text)
            explanation.english, explanation.chinese = (logits[name].softmax(-1) for name in ("video", "chinese"))
        if pixel_values_videos is not None:
            explanation.attention = self._map_attention(pixel_values_videos)
        return explanation

    def _map_attention(self, pixel_values_videos: Tensor) -> Tensor | None:
        """Give how much the class token of each frame looks at each patch: (B, T, h, w), or None without attention."""
        was_training = self.training
        if was_training:  # a batch norm must not count these frames
            self.eval()
        try:
            maps = map_attention(self.vision_model, lambda: self.encode_frames(pixel_values_videos))
        finally:
            self.train(was_training)
        return None if maps is None else self._split_rows(self._split_frames(maps, pixel_values_videos.shape[1]))

    def _split_frames(self, maps: Tensor, num_frames: int) -> Tensor:
        """Bring what a tower gives for its images to the frames of each video: (B, T, patches)."""
        return maps.unflatten(0, (-1, num_frames))

    def _split_rows(self, patches: Tensor) -> Tensor:
        """Lay out the patches of each frame: (B, T, h * w) -> (B, T, h, w)."""
        rows = self.config.frame_size // int(self.config.vision_config.patch_size)
        return patches.unflatten(-1, (rows, -1))

    def used_branch_inputs(self) -> tuple[str, ...]:
        """Attributes can be used where there is a branch for them."""
        return () if self.attributes is None else self.branch_inputs

    def used_text_inputs(self) -> tuple[str, ...]:
        """Chinese names can be read where there is a branch for them."""
        return () if self.chinese is None else self.text_inputs

    def scales(self) -> dict[str, Tensor]:
        """Give CLIP's learned factor, `exp(logit_scale)`, and that of trained attributes."""
        scale = self.logit_scale.exp()
        trained = None if self.attributes is None else self.attributes.logit_scale
        return {"video": scale, "chinese": scale, "attributes": scale if trained is None else trained.exp()}

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name what the branches do not train: their towers, and the branch that does not train now."""
        tower = ("attributes.text_model.", "attributes.text_projection.") if self.config.freeze_attribute_text else ()
        if self.config.train_branch == "attributes":
            return (*(name for name, _ in self.named_parameters() if not name.startswith("attributes.")), *tower)
        kept = () if self.chinese is None else ("chinese.",)
        if self.attributes is None:
            return kept
        return (*kept, *(tower if self.config.train_branch == "both" else ("attributes.",)))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # the branch is initialized before the model that holds it
        if module is self or isinstance(module, AttributesBranch):
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
        if isinstance(module, AttributesBranch):
            module.start_weights(self)


def _clip_skeleton(config: ClipRecognizerConfig) -> CLIPModel:
    with torch.device("meta"):
        return CLIPModel(
            CLIPConfig(
                text_config=config.text_config.to_dict(),
                vision_config=config.vision_config.to_dict(),
                projection_dim=config.projection_dim,
            )
        )
