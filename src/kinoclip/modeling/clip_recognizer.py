"""Recognizers that are a CLIP model: same parameter names, so any CLIP checkpoint fills both towers."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel
from transformers import initialization as init

from kinoclip.modeling.checkpoints import (
    check_shapes,
    clip_to_transformers,
    infer_clip_config,
    naming,
    read_checkpoint,
    read_shapes,
    without_load_report,
)
from kinoclip.modeling.configuration import ClipRecognizerConfig, check_content
from kinoclip.modeling.layers.attention_maps import map_attention
from kinoclip.modeling.layers.class_token import replace_last_layer
from kinoclip.modeling.layers.quick_gelu import replace_activations
from kinoclip.modeling.layers.text_branches import (
    AttributesBranch,
    candidates_without_name,
    complete_votes,
    find_second_tower,
)
from kinoclip.modeling.layers.text_features import end_of_text, ensemble
from kinoclip.modeling.layers.token_merging import encode_images, merge_tokens_in
from kinoclip.modeling.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode

# prompts per batch: 400 prompts at once need 3 GB and are slower
_TEXT_CHUNK = 64
# prefixes of the parameters of CLIP's text tower
TEXT_TOWER = ("text_model.", "text_projection.")


class ClipRecognizer(VideoRecognizer, CLIPModel):
    """A `CLIPModel` that recognizes videos; the base class of the methods on CLIP."""

    config: ClipRecognizerConfig
    config_class = ClipRecognizerConfig
    main_input_name = "pixel_values_videos"  # CLIPModel has its own
    input_modalities = ("video", "text")
    _no_split_modules = [
        *("CLIPEncoderLayer", "LastLayer", "MergingLayer", "TemporalShiftLayer"),
        *("CLIPTextEmbeddings", "CLIPVisionEmbeddings"),
    ]
    further_inputs = {"chinese_input_ids": "text", "attribute_input_ids": "branch"}
    # whether the method uses every position of the text, or its end only
    reads_words = False

    def __init__(self, config: ClipRecognizerConfig):
        super().__init__(config)
        self.temporal_head: nn.Module | None = None  # of methods that have one
        replace_last_layer(self.vision_model)
        replace_activations(self)
        if config.merge_r:
            merge_tokens_in(self.vision_model, config.merge_r, config.prop_attn)
        self.attributes = None if config.attributes == "none" else AttributesBranch(config)
        self.chinese = find_second_tower(config.second_tower)(config) if config.chinese_branch else None
        if not config.text_tower:
            self.drop_text_tower()
        self._register_candidates()

    @classmethod
    def from_clip(cls, clip: str | Path, *, dtype: torch.dtype | None = torch.float32, **fields: Any) -> Self:
        """Build the method, with config `fields`, on a trained CLIP; only the method's own modules are initialized.

        Args:
            clip: a CLIP folder or hub id in the Transformers layout, or a file in OpenAI's layout.
            dtype: of the weights; None takes that of the checkpoint's config, or of its weights.
            fields: config fields of the method.

        Raises:
            ValueError: the checkpoint is not a CLIP, lacks weights, or is a file with further weights.
        """
        if Path(clip).is_file():
            state = read_checkpoint(clip)
            config = cls.config_class.from_clip_config(infer_clip_config(state), **fields)
            source: dict[str, Any] = {"state_dict": clip_to_transformers(state)}
            origin = None
        else:
            with naming(f"{clip}/config.json"):
                content = CLIPConfig.get_config_dict(clip)[0]
                if content.get("model_type") == "clip":
                    check_content(content, "config.json")
                    clip_config = CLIPConfig.from_pretrained(clip)
            if content.get("model_type") != "clip":
                raise ValueError(f"{clip} is not a CLIP checkpoint. Name a CLIP folder, hub id or OpenAI-layout file.")
            config = cls.config_class.from_clip_config(clip_config, **fields)
            source, origin, dtype = {}, str(clip), dtype or clip_config.dtype
        with naming(f"{clip}/config.json"):
            expected = {name: parameter.shape for name, parameter in _clip_skeleton(config).named_parameters()}
        if origin is None:
            found = {name: tensor.shape for name, tensor in source["state_dict"].items()}
        else:  # a folder may hold more than a CLIP
            found = {name: shape for name, shape in read_shapes(origin).items() if name in expected}
        check_shapes(expected, found, str(clip), "CLIP", "Name a whole CLIP.")
        with naming(f"The weights in {clip}"), without_load_report():  # which lists the method's own modules
            model: Self = cls.from_pretrained(origin, config=config, dtype=dtype, **source)
        return model

    @property
    def frame_width(self) -> int:
        """D, the width of the shared space."""
        return self.config.projection_dim

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the vision tower encodes each frame separately, as CLIP's layers do."""
        return self.config.changed_layers is None

    def drop_text_tower(self) -> Self:
        """Remove the text tower; only the candidates that the checkpoint carries remain."""
        self.text_model = None
        self.text_projection = None
        self.chinese = None
        self.config.text_tower = False
        return self

    def load_chinese(self, source: str | Path) -> Self:
        """Load the text tower of a trained Chinese-CLIP, a folder or hub id, as the branch that reads second names."""
        return self.load_second_text("chinese_clip", source)

    def load_second_text(self, kind: str, source: str | Path | None = None) -> Self:
        """Add the branch that reads second names of candidates with a tower of `SECOND_TOWERS`.

        Args:
            kind: of the tower.
            source: the trained model, a folder or hub id; None for new weights, and for "shared", which has none.
        """
        branch, width = find_second_tower(kind), self.config.projection_dim
        trained = None if source is None else branch.load(str(source))
        if trained is not None and trained.text_projection.out_features != width:
            raise ValueError(
                f"The shared space of {source} must have {width} dimensions as the recognizer's, got "
                f"{trained.text_projection.out_features}. Use a model of the same size: vit-base-patch16 for 512, "
                "vit-large-patch14 for 768."
            )
        self.config.second_tower, self.config.chinese_branch = kind, True
        if trained is not None:
            setattr(self.config, branch.config_name, trained.text_model.config)
        self.config.complete_fusion()
        self.chinese = branch(self.config).to(self.device, self.dtype).train(self.training)
        if trained is not None:
            self.chinese.text_model.load_state_dict(trained.text_model.state_dict())
            self.chinese.text_projection.load_state_dict(trained.text_projection.state_dict())
        return self

    def load_attribute_clip(self, source: str | Path) -> Self:
        """Load the text tower and temperature of a trained CLIP (see `from_clip`) into a new attributes branch.

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
        """Encode frames with CLIP's vision tower, or its changed layers: (B, T, 3, H, W) -> embeds (B, T, D), not unit length."""
        if not self.encodes_frames_alone:
            return self.encode_together(pixel_values_videos)
        shape = pixel_values_videos.shape[:2]
        images = encode_images(self.vision_model, pixel_values_videos.flatten(0, 1), class_token_only=True)
        regions = None if images.regions is None else images.regions.unflatten(0, shape)
        return FrameFeatures(embeds=self.visual_projection(images.pooler_output).unflatten(0, shape), regions=regions)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        """Encode images (N, 3, H, W) as `CLIPModel` does, if the tower encodes each frame separately."""
        if not self.encodes_frames_alone:
            name = type(self).__name__
            raise ValueError(f"This {name} reads the frames of a video together. Call get_video_features for videos.")
        return super().get_image_features(pixel_values, **kwargs)

    def encode_together(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode frames with layers that read the other frames of the video: (B, T, 3, H, W) -> embeds (B, T, D)."""
        frames, shape = pixel_values_videos.flatten(0, 1), pixel_values_videos.shape[:2]
        pooled = self.vision_model(pixel_values=frames, num_frames=shape[1]).pooler_output
        return FrameFeatures(embeds=self.visual_projection(pooled).unflatten(0, shape))

    def contextualize(self, frames: FrameFeatures) -> Tensor:
        """Return the frames (B, T, D) after the temporal head, if there is one."""
        return frames.embeds if self.temporal_head is None else self.temporal_head(frames.embeds)

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        *,
        chinese_input_ids: Tensor | None = None,
    ) -> TextFeatures:
        """Encode the candidates with CLIP's text tower: (P, K, L) -> embeds (P, K, D), words (K, P*L, D).

        Further branches encode them with their own towers; `chinese_input_ids` (P', K, L') are their second names.
        """
        if self.text_model is None:
            raise ValueError(
                "This checkpoint has no text tower: it knows only its own candidates. Use a checkpoint with a text tower for "
                "other labels."
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
        """Encode texts (N, L): the state of their end (N, D), and of each token (N, L, D) if the method reads words.

        The causal mask makes what follows the end-of-text token irrelevant. Where only that token is used, texts are sorted
        by length, and each chunk is cut to its longest text; a compiled graph cannot depend on where the ends are.
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
        """Encode the candidates with the text towers of further branches: name -> (P, K, E)."""
        branches = {}
        if self.config.attributes == "own":
            branches["attributes"] = self.attributes.encode(input_ids.flatten(0, 1)).unflatten(0, input_ids.shape[:2])
        if chinese_input_ids is not None:
            if self.chinese is None:
                raise ValueError(
                    f"This {type(self).__name__} has no Chinese branch. Build it with chinese_branch=True, `load_chinese` or "
                    "`load_second_text`."
                )
            shape = chinese_input_ids.shape[:2]
            encoded = [self.chinese(ids, self) for ids in chinese_input_ids.flatten(0, 1).split(_TEXT_CHUNK)]
            names, named = (torch.cat(parts).unflatten(0, shape) for parts in zip(*encoded, strict=True))
            branches |= {"chinese": names, "chinese_named": named.amax(0, keepdim=True)}
        return branches or None

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Compute the cosine of each video (B, D) and candidate, templates averaged: (B, K)."""
        return normalize(video, dim=-1) @ ensemble(text.embeds).T

    def branches(
        self, video: Tensor | None, text: TextFeatures, attribute_input_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Score by the video, by second names if they were encoded, and by attributes (B, L) if they are passed.

        A candidate without a second name keeps its English score, see `complete_votes`.
        """
        votes = super().branches(video, text)
        if video is not None and text.branches is not None and "chinese" in text.branches:
            votes["chinese"] = self._vote_in_chinese(video, votes["video"], text)
        if attribute_input_ids is not None:
            votes["attributes"] = self._vote_by_attributes(attribute_input_ids, text)
        return votes

    def _vote_in_chinese(self, video: Tensor, english: Tensor, text: TextFeatures) -> Tensor:
        """Score by second names, and candidates without one by their English votes (B, K): (B, K)."""
        branches = text.branches or {}
        missing = candidates_without_name(branches)
        # any vector with a direction: the votes of these candidates are replaced
        names = torch.where(missing[:, None], ensemble(text.embeds), branches["chinese"])
        return complete_votes(self.match(video, TextFeatures(embeds=names)), english, missing)

    def _vote_by_attributes(self, input_ids: Tensor, text: TextFeatures) -> Tensor:
        if self.attributes is None:
            raise ValueError(
                f'This {type(self).__name__} has no attributes branch. Build it with attributes="shared" or "own".'
            )
        if self.config.attributes == "own":
            if text.branches is None or "attributes" not in text.branches:
                raise ValueError("text_features lack the attributes branch. Encode the texts with this model.")
            return self.attributes(self.attributes.encode(input_ids), ensemble(text.branches["attributes"]))
        return self.attributes(ClipRecognizer.encode_text(self, input_ids[None]).embeds[0], ensemble(text.embeds))

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Multiply by CLIP's learned `exp(logit_scale)`; trained attributes have a factor of their own."""
        scale = self.logit_scale.exp()
        trained = None if self.attributes is None else self.attributes.logit_scale
        scales = {"attributes": scale if trained is None else trained.exp()}
        return {name: scales.get(name, scale) * vote for name, vote in votes.items()}

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Collect saliency, the regions of merged patches, the votes of each language, and for pixels attention maps."""
        explanation = super().explain(frames, text)
        if frames.regions is not None:
            explanation.regions = self._split_rows(frames.regions)
        if text.branches is not None and "chinese" in text.branches:
            video = self.aggregate(frames, text)
            logits = self.scale_votes(self.branches(video, text), video, text)
            explanation.english, explanation.chinese = (logits[name].softmax(-1) for name in ("video", "chinese"))
        maps = None if pixel_values_videos is None else self._map_attention(pixel_values_videos)
        if maps is not None:
            explanation.attention = self._split_rows(maps)
        return explanation

    def _map_attention(self, pixel_values_videos: Tensor) -> Tensor | None:
        """Compute the attention of the class token of each frame: (B, T, patches), or None without attention."""
        with evaluation_mode(self):  # a batch norm must not count these frames
            maps = map_attention(self.vision_model, lambda: self.encode_frames(pixel_values_videos))
        return None if maps is None else maps.unflatten(0, pixel_values_videos.shape[:2])

    def _split_rows(self, patches: Tensor) -> Tensor:
        """Arrange the patches of each frame in rows: (B, T, h * w) -> (B, T, h, w)."""
        rows = self.config.frame_size // int(self.config.vision_config.patch_size)
        return patches.unflatten(-1, (rows, -1))

    def used_inputs(self) -> tuple[str, ...]:
        """Return the inputs of the branches that the model has."""
        branches = {"chinese_input_ids": self.chinese, "attribute_input_ids": self.attributes}
        return tuple(name for name, branch in branches.items() if branch is not None)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Return the towers of the branches, the branch that is not trained, and with `freeze_text` the text tower."""
        tower = tuple(f"attributes.{name}" for name in TEXT_TOWER) if self.config.freeze_attribute_text else ()
        if self.config.train_branch == "attributes":
            names = [name for name, _ in self.named_parameters() if not name.startswith("attributes.")]
            return (*names, *tower)
        chinese = () if self.chinese is None else ("chinese.",)
        attributes = () if self.attributes is None else ("attributes.",)
        text = TEXT_TOWER if getattr(self.config, "freeze_text", False) else ()
        return (*chinese, *(tower if self.config.train_branch == "both" else attributes), *text)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # the branch is initialized before the model that holds it
        if module is self or isinstance(module, AttributesBranch):
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
        if isinstance(module, AttributesBranch):
            module.initialize(self)


def _clip_skeleton(config: ClipRecognizerConfig) -> CLIPModel:
    with torch.device("meta"):
        return CLIPModel(
            CLIPConfig(
                text_config=config.text_config.to_dict(),
                vision_config=config.vision_config.to_dict(),
                projection_dim=config.projection_dim,
            )
        )
