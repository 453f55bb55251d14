"""The one interface of all methods: encode frames, encode candidates, aggregate, match."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from kinoclip.components.gathering import gather_features, gather_rows, is_distributed
from kinoclip.losses import cross_entropy, label_match, symmetric_kl
from kinoclip.outputs import Explanation, FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.recognizer_config import RecognizerConfig

Branch = dict[str, Tensor]


class VideoRecognizer(PreTrainedModel):
    """A model that names the action in a video among candidate texts.

    A method overrides the stages `encode_frames`, `encode_text`, `aggregate`, `match`, `branches`, `extra_losses`, never `forward`.
    """

    config: RecognizerConfig
    config_class = RecognizerConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    # the loss is a mean over the batch; without this, `Trainer` would hand `forward` a count of items
    accepts_loss_kwargs = False
    # inputs of `forward` beyond pixels and text that this method understands; they reach `branches`
    branch_inputs: ClassVar[tuple[str, ...]] = ()
    # further inputs that reach `encode_text`: one row for each candidate, under one or more templates
    text_inputs: ClassVar[tuple[str, ...]] = ()
    # further inputs that reach `extra_losses`
    loss_inputs: ClassVar[tuple[str, ...]] = ()

    @property
    def frame_width(self) -> int:
        """D, the width of what `encode_frames` gives for a frame."""
        raise NotImplementedError

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the features of a frame depend on nothing but this frame, so that frames can be encoded apart."""
        return False

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: (B, T, 3, H, W) -> embeds (B, T, D)."""
        raise NotImplementedError

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Encode the candidates: (P, K, L) -> embeds (P, K, D)."""
        raise NotImplementedError

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, D), or (B, K, D) where the pooling depends on the candidate."""
        raise NotImplementedError

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score each video against each candidate, unscaled: (B, K)."""
        raise NotImplementedError

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Tell how much each frame counts for each candidate: (B, K, T), or None where the method does not weigh."""
        return None

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Say why the videos are named as they are.

        Args:
            frames: what an output gave as `frames`.
            text: what it gave as `text`.
            pixel_values_videos: (B, T, 3, H, W) that `frames` were made of; given, they are encoded once more, to see where
                the vision tower looks, if it has attention.
        """
        return Explanation(saliency=self.saliency(frames, text))

    def branches(self, video: Tensor | None, text: TextFeatures, **inputs: Tensor) -> Branch:
        """Collect the votes of all branches, unscaled: name -> (B, K)."""
        return {} if video is None else {"video": self.match(video, text)}

    def used_branch_inputs(self) -> tuple[str, ...]:
        """Name the inputs of further branches that this model, as it is configured, can use."""
        return self.branch_inputs

    def used_text_inputs(self) -> tuple[str, ...]:
        """Name the further texts that this model, as it is configured, can read."""
        return self.text_inputs

    def scales(self) -> Branch:
        """Give the factor of each branch that turns its scores into logits."""
        raise NotImplementedError

    def scale_votes(self, votes: Branch, video: Tensor | None, text: TextFeatures) -> Branch:
        """Turn the votes of all branches into logits: name -> (B, K)."""
        scales = self.scales()
        return {name: scales[name] * vote for name, vote in votes.items()}

    def fuse(self, scaled: Branch) -> Tensor:
        """Fuse the logits of the branches: (B, K)."""
        return fuse_logits(scaled, self.config.fusion, self.config.fusion_rule)

    def extra_losses(self, frames: FrameFeatures | None, text: TextFeatures, **inputs: Tensor) -> Branch:
        """Give losses beyond matching, by name, of this process's own videos."""
        return {}

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the matching loss of logits (B, K) against `match` (B, K), one where a candidate is right."""
        if self.config.loss == "symmetric_kl":
            return symmetric_kl(logits, match)
        return cross_entropy(logits, match)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        word_mask: Tensor | None = None,
        text_features: TextFeatures | None = None,
        frame_features: FrameFeatures | None = None,
        labels: Tensor | None = None,
        candidate_labels: Tensor | None = None,
        **inputs: Tensor,
    ) -> RecognitionOutput:
        """Name the videos.

        Args:
            pixel_values_videos: (B, T, 3, H, W), normalized.
            input_ids: (P, K, L), the candidates under P templates; left out, the checkpoint's own candidates count.
            attention_mask: (P, K, L); leave it out unless the method's processor makes one.
            word_mask: (P, K, L), true on the tokens of the label itself, for methods that read the label's words.
            text_features: what an earlier output gave as `text`: skips the text tower.
            frame_features: what an earlier output gave as `frames`: skips the vision tower.
            labels: (B,) class ids, or (B, K) multi-hot.
            candidate_labels: (K,) class ids of the candidates; 0..K-1 when left out.
            inputs: inputs of further texts, branches and losses, by name (`text_inputs`, `branch_inputs`, `loss_inputs`).

        Raises:
            TypeError: an input that this method does not use.
            ValueError: an input that is missing or has the wrong shape.
        """
        self._check_inputs(pixel_values_videos, input_ids, text_features, frame_features, inputs)
        frames = frame_features
        if frames is None and pixel_values_videos is not None:
            frames = self.encode_frames(pixel_values_videos)
        text = text_features if text_features is not None else self.candidates()
        for_text = {name: inputs.pop(name) for name in self.text_inputs if name in inputs}
        if input_ids is not None:
            _check_masks(input_ids, attention_mask=attention_mask, word_mask=word_mask)
            text = self.encode_text(input_ids, attention_mask, word_mask, **for_text)
        _check_rows(frames, text, inputs, labels, candidate_labels)
        for_losses = {name: inputs.pop(name) for name in self.loss_inputs if name in inputs}
        extra = {} if labels is None else self.extra_losses(frames, text, **for_losses)
        if self.training and self.config.gather_features and candidate_labels is not None and is_distributed():
            frames, text, inputs = gather_features(frames, text, inputs)
            labels = None if labels is None else gather_rows(labels)
            candidate_labels = gather_rows(candidate_labels)
        video = None if frames is None else self.aggregate(frames, text)
        votes = self.branches(video, text, **inputs)
        scaled = self.scale_votes(votes, video, text)
        losses = None
        if labels is not None:
            rows = torch.arange(text.embeds.shape[1], device=labels.device)
            match = label_match(labels, rows if candidate_labels is None else candidate_labels)
            losses = {name: self.criterion(logits, match) for name, logits in scaled.items()} | extra
        return RecognitionOutput(
            loss=None if losses is None else torch.stack(list(losses.values())).sum(),
            logits=self.fuse(scaled),
            votes=votes,
            losses=losses,
            video_embeds=video,
            frames=frames,
            text=text,
        )

    def _check_inputs(
        self,
        pixels: Tensor | None,
        input_ids: Tensor | None,
        text: TextFeatures | None,
        frames: FrameFeatures | None,
        inputs: Mapping[str, Tensor],
    ) -> None:
        name = type(self).__name__
        further = (*self.text_inputs, *self.branch_inputs, *self.loss_inputs)
        unknown = sorted(set(inputs) - set(further))
        if unknown:
            known = ", ".join(further) or "none"
            raise TypeError(f"{name} does not use {', '.join(unknown)}. Its further inputs: {known}.")
        if pixels is not None and (pixels.ndim != 5 or pixels.shape[2] != 3):
            raise ValueError(
                f"{name} takes pixel_values_videos of shape (B, T, 3, H, W), not {tuple(pixels.shape)}. "
                "Make them with the model's processor."
            )
        if pixels is not None and frames is not None:
            raise ValueError(f"{name} was given both pixel_values_videos and frame_features. Give one of them.")
        if pixels is None and frames is None and not set(inputs) - set(self.text_inputs):
            raise ValueError(f"{name} was given nothing to recognize. Give pixel_values_videos or frame_features.")
        if input_ids is not None and input_ids.ndim != 3:
            raise ValueError(
                f"{name} takes input_ids of shape (P, K, L): templates, candidates, tokens; not {tuple(input_ids.shape)}."
            )
        for further_text in set(self.text_inputs) & set(inputs):
            if input_ids is None or inputs[further_text].shape[1:2] != input_ids.shape[1:2]:
                raise ValueError(
                    f"{name} takes {further_text} of shape (P, K, L) beside the input_ids of the same K candidates."
                )
        if input_ids is not None and text is not None:
            raise ValueError(f"{name} was given both input_ids and text_features. Give one of them.")
        if input_ids is None and text is None and self.candidates() is None:
            raise ValueError(
                f"{name} was given no candidates, and the checkpoint carries none. Give input_ids or text_features, "
                "or store candidates with `set_candidates`."
            )

    def candidates(self) -> TextFeatures | None:
        """Give the candidates that the checkpoint carries (named in `config.id2label`), or None."""
        shapes = self.config.candidate_shapes
        if not shapes:
            return None
        return TextFeatures.from_tensors({name: getattr(self, f"candidate_{name}") for name in shapes})

    def set_candidates(self, names: Sequence[str], text: TextFeatures) -> Self:
        """Store candidates in the checkpoint, so that `model(pixel_values_videos=...)` alone gives logits.

        Raises:
            ValueError: names and features differ in number, or a name comes twice.
        """
        check_candidates(names, text)
        for old in self.config.candidate_shapes or ():
            delattr(self, f"candidate_{old}")
        tensors = text.tensors()
        for name, tensor in tensors.items():
            self.register_buffer(f"candidate_{name}", tensor.detach().clone().contiguous())
        self.config.candidate_shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: i for i, name in enumerate(names)}
        return self

    def _register_candidates(self) -> None:
        """Make room for the candidates that the config announces; the checkpoint fills it."""
        for name, shape in (self.config.candidate_shapes or {}).items():
            dtype = torch.bool if name == "word_mask" else None
            self.register_buffer(f"candidate_{name}", torch.zeros(shape, dtype=dtype))

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name the beginnings of the parameters that the method does not train."""
        return ()

    def freeze(self) -> list[str]:
        """Freeze what the method does not train, unfreeze the rest, and give the names of the frozen parameters."""
        prefixes = self.frozen_prefixes()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)
        return [name for name, parameter in self.named_parameters() if not parameter.requires_grad]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # a CLIP starts its own weights before there is room for candidates
        if module is self and hasattr(self, "candidate_embeds"):
            for name in self.config.candidate_shapes or ():
                init.zeros_(getattr(self, f"candidate_{name}"))

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save weights under this package's own names; the config writes the shim beside them."""
        super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: a published folder carries the shim, never copies of this package's files."""


def fuse_logits(scaled: Branch, weights: Mapping[str, float] | None, rule: str = "probabilities") -> Tensor:
    """Join the logits of several branches: the log of the weighted mean of their probabilities, or their weighted mean.

    Args:
        scaled: name of a branch to its scaled logits (B, K).
        weights: name of a branch to its weight; equal weights when None. Weights of absent branches do not count.
        rule: "probabilities" or "scores".
    """
    if len(scaled) == 1:
        return next(iter(scaled.values()))
    share = torch.tensor([1.0 if weights is None else weights[name] for name in scaled])
    share = (share / share.sum()).to(next(iter(scaled.values())).device)[:, None, None]
    stacked = torch.stack(list(scaled.values()))
    if rule == "scores":
        return (share * stacked).sum(0)
    return (share.log() + stacked.log_softmax(-1)).logsumexp(0)


def check_candidates(names: Sequence[str], text: TextFeatures) -> None:
    """Make sure that each candidate has a name of its own.

    Raises:
        ValueError: names and features differ in number, or a name comes twice.
    """
    if len(names) != text.embeds.shape[1]:
        raise ValueError(f"{len(names)} names were given for the features of {text.embeds.shape[1]} candidates.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} names two candidates. Give each a name of its own.")


def _check_masks(input_ids: Tensor, **masks: Tensor | None) -> None:
    for name, mask in masks.items():
        if mask is not None and mask.shape != input_ids.shape:
            raise ValueError(
                f"{name} has shape {tuple(mask.shape)}, but input_ids have {tuple(input_ids.shape)}: it marks their tokens."
            )


def _check_rows(
    frames: FrameFeatures | None,
    text: TextFeatures,
    inputs: Mapping[str, Tensor],
    labels: Tensor | None,
    candidate_labels: Tensor | None,
) -> None:
    """Make sure that everything speaks of the same videos and the same candidates."""
    first = frames.embeds if frames is not None else next(iter(inputs.values()))
    videos, candidates = first.shape[0], text.embeds.shape[1]  # `len` would fix the size of an exported batch
    for name, rows in inputs.items():
        if rows.shape[0] != videos:
            raise ValueError(f"{name} has {rows.shape[0]} rows for {videos} videos. Give one row for each video.")
    if labels is not None and labels.shape not in ((videos,), (videos, candidates)):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} were given for {videos} videos and {candidates} candidates. "
            "Give class ids (B,), or a one for each right candidate (B, K)."
        )
    if candidate_labels is not None and candidate_labels.shape != (candidates,):
        raise ValueError(
            f"candidate_labels of shape {tuple(candidate_labels.shape)} were given for {candidates} candidates. "
            "Give the class id of each (K,)."
        )
