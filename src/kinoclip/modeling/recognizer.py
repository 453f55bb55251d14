"""The interface of all methods: encode frames, encode candidates, aggregate, match."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import can_return_tuple

from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.layers.attention_maps import record_layers
from kinoclip.modeling.layers.gathering import gather_features, gather_rows, is_distributed
from kinoclip.modeling.losses import cross_entropy, label_match, symmetric_kl
from kinoclip.modeling.outputs import Explanation, FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.modeling.shim import OwnCodeMixin, ShimMixin

Branch = dict[str, Tensor]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation, and back to its own mode at the end."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


class VideoRecognizer(OwnCodeMixin, ShimMixin, PreTrainedModel):
    """A model that recognizes the action in a video among candidate texts.

    `forward` is the same for all methods and calls these hooks in order. A method overrides those that it changes:

    | hook | default | purpose |
    |---|---|---|
    | `encode_frames` | required | pixels (B, T, 3, H, W) to `FrameFeatures` |
    | `encode_fixed`, `complete_frames` | `encode_frames`, nothing | its two halves, if a trained module follows a frozen encoder |
    | `candidates` | stored by `set_candidates` | the candidates of the checkpoint, used when `input_ids` are left out |
    | `encode_text` | refused | tokens (P, K, L) to `TextFeatures` |
    | `extra_losses` | none | losses beyond matching, of this process's own videos |
    | `aggregate` | required | frames to (B, D), or (B, K, D) where the pooling depends on the candidate |
    | `match` | required | unscaled scores (B, K) of the video branch |
    | `branches` | `match` | unscaled scores of all branches |
    | `scale_votes` | required | unscaled scores to logits |
    | `criterion` | `config.loss` | matching loss of the logits of a branch |

    Beside `forward`:

    | hook | default | purpose |
    |---|---|---|
    | `further_inputs` | none | names of further inputs of `forward`, and the hook that gets each |
    | `used_inputs` | all of them | those that the model, as it is configured, can use |
    | `frame_width` | required | D of `encode_frames` |
    | `encodes_frames_alone` | False | whether frames can be encoded one by one |
    | `computes_in_parallel` | with torch | whether threads that call it at the same time share the cores |
    | `embed_video` | `aggregate` | frames to (B, D), for a method whose pooling depends on the candidate |
    | `saliency` | None | weight of each frame for each candidate |
    | `explain` | `saliency` | evidence for an answer |
    | `constant_prefixes` | none | parameters that never have a gradient |
    | `frozen_prefixes` | none | parameters that the method does not train |
    | `unwrap` | the model itself | the recognizer inside a wrapper; it aggregates, scores and computes the loss |
    | `content_hash` | none | hash of what computes beside config and parameters |
    | `_init_weights` | candidates | initial values, as in Transformers |
    """

    config: RecognizerConfig
    config_class = RecognizerConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    # the loss is a mean over the batch; without this, `Trainer` would pass a number of items to `forward`
    accepts_loss_kwargs = False
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True
    # name of a further input of `forward` to the hook that gets it: `encode_frames`, `encode_text`, `branches`, `extra_losses`
    further_inputs: Mapping[str, Literal["frames", "text", "branch", "loss"]] = {}
    # whether torch's CPU threads compute the model
    uses_torch_threads: ClassVar[bool] = True
    # `encode_frames` for inference alone, compiled; None if it is not
    compiled_frames: Callable[..., FrameFeatures] | None = None

    @property
    def frame_width(self) -> int:
        """D, the width of frame features."""
        raise NotImplementedError

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the features of a frame depend on this frame only, so that frames can be encoded one by one."""
        return False

    @property
    def computes_in_parallel(self) -> bool:
        """Whether threads that call the model at the same time share the cores of the CPU."""
        return self.uses_torch_threads

    @property
    def content_hash(self) -> str:
        """Hash of what computes beside config and parameters, such as graphs."""
        return ""

    def unwrap(self) -> "VideoRecognizer":
        """Return the recognizer inside a wrapper such as SLLM, or the model itself."""
        return self

    def used_inputs(self) -> tuple[str, ...]:
        """Return the names of the further inputs that the model, as it is configured, can use."""
        return tuple(self.further_inputs)

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: (B, T, 3, H, W) -> embeds (B, T, D)."""
        raise NotImplementedError

    def encode_fixed(self, pixel_values_videos: Tensor, **inputs: Tensor) -> FrameFeatures:
        """Encode frames as far as no trained module takes part if the towers are frozen, for features that are stored."""
        return self.encode_frames(pixel_values_videos)

    def complete_frames(self, frames: FrameFeatures) -> FrameFeatures:
        """Return the features of `encode_frames` from those of `encode_fixed`."""
        return frames

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Encode the candidates: (P, K, L) -> embeds (P, K, D); a method that reads no text refuses them."""
        name = type(self).__name__
        raise ValueError(f"{name} reads no text: the rows of its classifier are its candidates. Leave input_ids out.")

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, D), or (B, K, D) where the pooling depends on the candidate."""
        raise NotImplementedError

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score each video against each candidate, unscaled: (B, K)."""
        raise NotImplementedError

    def branches(self, video: Tensor | None, text: TextFeatures, **inputs: Tensor) -> Branch:
        """Compute the unscaled scores of all branches: name -> (B, K)."""
        return {} if video is None else {"video": self.match(video, text)}

    def scale_votes(self, votes: Branch, video: Tensor | None, text: TextFeatures) -> Branch:
        """Turn the scores of all branches into logits: name -> (B, K)."""
        raise NotImplementedError

    def extra_losses(self, frames: FrameFeatures | None, text: TextFeatures, **inputs: Tensor) -> Branch:
        """Compute losses beyond matching, by name, of this process's own videos."""
        return {}

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Compute the matching loss of logits (B, K) against `match` (B, K), one where a candidate is right."""
        if self.config.loss == "symmetric_kl":
            return symmetric_kl(logits, match)
        return cross_entropy(logits, match)

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Compute the weight of each frame for each candidate: (B, K, T), or None where frames are not weighed."""
        return None

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Collect the evidence for the answers to some videos, from `frames` and `text` of an output.

        Pixels (B, T, 3, H, W) of the frames are encoded once more, for the attention maps of the vision tower.
        """
        return Explanation(saliency=self.saliency(frames, text))

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
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
        **inputs: Tensor,
    ) -> RecognitionOutput:
        """Recognize the videos.

        Args:
            pixel_values_videos: (B, T, 3, H, W), normalized.
            input_ids: (P, K, L), the candidates under P templates; None uses those of the checkpoint.
            attention_mask: (P, K, L); leave it out unless the method's processor makes one.
            word_mask: (P, K, L), true on the tokens of the label itself, for methods that read the label's words.
            text_features: `text` of an earlier output; skips the text tower.
            frame_features: `frames` of an earlier output; skips the vision tower.
            labels: (B,) class ids, or (B, K) multi-hot.
            output_hidden_states: return the tokens of each layer of the vision tower, or of the layers with these numbers.
            output_attentions: return the attention weights of each layer of the vision tower, which then runs as "eager".
            inputs: `candidate_labels` (K,), the class ids of the candidates, by default 0..K-1; and further inputs by name, see
                `further_inputs`.

        Raises:
            TypeError: the method does not use an input.
            ValueError: an input is missing or has the wrong shape.
        """
        candidate_labels = inputs.pop("candidate_labels", None)  # `Trainer` takes a parameter of this name for a label
        self._check_inputs(pixel_values_videos, input_ids, text_features, frame_features, inputs)
        for_frames, for_text, for_branches, for_losses = (
            {name: value for name, value in inputs.items() if self.further_inputs[name] == hook}
            for hook in ("frames", "text", "branch", "loss")
        )
        frames = None if frame_features is None else self.complete_frames(frame_features)
        layers: dict[str, Any] = {}
        if frames is None and pixel_values_videos is not None:
            encode = partial(self.encode_frames, pixel_values_videos, **for_frames)
            frames, layers = self._record_layers(encode, output_hidden_states, output_attentions)
        text = text_features if text_features is not None else self.candidates()
        if input_ids is not None:
            _check_masks(input_ids, attention_mask=attention_mask, word_mask=word_mask)
            text = self.encode_text(input_ids, attention_mask, word_mask, **for_text)
        _check_rows(frames, text, for_branches | for_losses, labels, candidate_labels)
        extra = {} if labels is None else self.extra_losses(frames, text, **for_losses)
        if self.training and self.config.gather_features and candidate_labels is not None and is_distributed():
            frames, text, for_branches = gather_features(frames, text, for_branches)
            labels = None if labels is None else gather_rows(labels)
            candidate_labels = gather_rows(candidate_labels)
        scorer = self.unwrap()
        video = None if frames is None else scorer.aggregate(frames, text)
        votes = scorer.branches(video, text, **for_branches)
        scaled = scorer.scale_votes(votes, video, text)
        losses = None
        if labels is not None:
            rows = torch.arange(text.embeds.shape[1], device=labels.device)
            match = label_match(labels, rows if candidate_labels is None else candidate_labels)
            losses = {name: scorer.criterion(logits, match) for name, logits in scaled.items()}
            losses.update(extra)
        return RecognitionOutput(
            loss=None if losses is None else torch.stack(list(losses.values())).sum(),
            logits=fuse_logits(scaled, scorer.config.fusion, scorer.config.fusion_rule),
            votes=votes,
            losses=losses,
            video_embeds=video,
            frames=frames,
            text=text,
            branch_logits=scaled,
            **layers,
        )

    def _record_layers(
        self,
        encode: Callable[[], FrameFeatures],
        hidden_states: bool | int | Sequence[int] | None = None,
        attentions: bool | None = None,
    ) -> tuple[FrameFeatures, dict[str, Any]]:
        """Encode frames, and record the layers of the vision tower; None follows the config, as in Transformers."""
        vision_model = getattr(self.unwrap(), "vision_model", None)
        if vision_model is not None:
            hidden_states = self.config.output_hidden_states if hidden_states is None else hidden_states
            attentions = self.config.output_attentions if attentions is None else attentions
        if attentions or (hidden_states is not None and hidden_states is not False):
            return record_layers(vision_model, encode, hidden_states, bool(attentions))
        return encode(), {}

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_video_features(
        self,
        pixel_values_videos: Tensor,
        output_hidden_states: bool | int | Sequence[int] | None = None,
        output_attentions: bool | None = None,
        **inputs: Tensor,
    ) -> BaseModelOutputWithPooling:
        """Encode videos (B, T, 3, H, W): `last_hidden_state` (B, T', D) of frames, `pooler_output` (B, D), see `embed_video`."""
        encode = partial(self.encode_frames, pixel_values_videos, **inputs)
        frames, layers = self._record_layers(encode, output_hidden_states, output_attentions)
        video = self.unwrap().embed_video(frames)
        return BaseModelOutputWithPooling(last_hidden_state=frames.embeds, pooler_output=video, **layers)

    def embed_video(self, frames: FrameFeatures) -> Tensor:
        """Pool frames to one vector for each video: (B, D), the mean where `aggregate` weighs them for each candidate."""
        return self.aggregate(frames, TextFeatures(embeds=frames.embeds[:1, :1]))

    def _check_inputs(
        self,
        pixels: Tensor | None,
        input_ids: Tensor | None,
        text: TextFeatures | None,
        frames: FrameFeatures | None,
        inputs: Mapping[str, Tensor],
    ) -> None:
        name = type(self).__name__
        unknown = sorted(set(inputs) - set(self.further_inputs))
        if unknown:
            known = ", ".join(self.further_inputs) or "none"
            raise TypeError(f"{name} does not use {', '.join(unknown)}. Its further inputs: {known}.")
        texts, others = (
            {given for given in inputs if self.further_inputs[given] in hooks}
            for hooks in (("text",), ("branch", "loss"))
        )
        if pixels is not None and (pixels.ndim != 5 or pixels.shape[2] != 3):
            raise ValueError(
                f"{name} takes pixel_values_videos of shape (B, T, 3, H, W), got {tuple(pixels.shape)}. "
                "Make them with the model's processor."
            )
        if pixels is not None and frames is not None:
            raise ValueError(f"{name} takes pixel_values_videos or frame_features, got both.")
        if pixels is None and frames is None and not others:
            raise ValueError(f"{name} has nothing to recognize. Pass pixel_values_videos or frame_features.")
        if input_ids is not None and input_ids.ndim != 3:
            raise ValueError(
                f"{name} takes input_ids of shape (P, K, L): templates, candidates, tokens; got {tuple(input_ids.shape)}."
            )
        for given in texts:
            if input_ids is None or inputs[given].shape[1:2] != input_ids.shape[1:2]:
                raise ValueError(
                    f"{name} takes {given} of shape (P, K, L) with the input_ids of the same K candidates."
                )
        if input_ids is not None and text is not None:
            raise ValueError(f"{name} takes input_ids or text_features, got both.")
        if input_ids is None and text is None and self.candidates() is None:
            raise ValueError(
                f"{name} has no candidates, and the checkpoint carries none. Pass input_ids or text_features, or store "
                "candidates with `set_candidates`."
            )

    def candidates(self) -> TextFeatures | None:
        """Return the candidates that the checkpoint carries (named in `config.id2label`), or None."""
        shapes = self.config.candidate_shapes
        if not shapes:
            return None
        return TextFeatures.from_tensors({name: getattr(self, f"candidate_{name}") for name in shapes})

    def set_candidates(self, names: Sequence[str], text: TextFeatures) -> Self:
        """Store candidates with different names, so that `model(pixel_values_videos=...)` alone returns logits."""
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
        """Register buffers for the candidates that the config describes; the checkpoint fills them."""
        for name, shape in (self.config.candidate_shapes or {}).items():
            dtype = torch.bool if name == "word_mask" else None
            self.register_buffer(f"candidate_{name}", torch.zeros(shape, dtype=dtype))

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Return prefixes of the names of the parameters that the method does not train."""
        return ()

    @property
    def constant_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the names of the parameters that never have a gradient, whatever is trained."""
        return ()

    def post_init(self) -> None:
        """Initialize the weights, as in Transformers; `constant_prefixes` need no gradient."""
        super().post_init()
        self._hold_constants()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model, as in Transformers; `constant_prefixes` need no gradient."""
        loaded = super().from_pretrained(*args, **kwargs)  # which makes all parameters need one
        model: Self = loaded[0] if isinstance(loaded, tuple) else loaded
        model._hold_constants()
        return loaded

    def _hold_constants(self) -> None:
        for module in self.modules():
            if isinstance(module, VideoRecognizer) and module.constant_prefixes:
                for name, parameter in module.named_parameters():
                    if name.startswith(module.constant_prefixes):
                        parameter.requires_grad_(False)

    def freeze(self) -> list[str]:
        """Freeze what the method does not train, unfreeze the rest, and return the names of the frozen parameters."""
        prefixes = self.frozen_prefixes()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(prefixes) if prefixes else True)
        return [name for name, parameter in self.named_parameters() if not parameter.requires_grad]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # a CLIP initializes its weights before the buffers exist
        if module is self and hasattr(self, "candidate_embeds"):
            for name in self.config.candidate_shapes or ():
                init.zeros_(getattr(self, f"candidate_{name}"))

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save weights under this package's own names; the config saves the shim."""
        super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})


def fuse_logits(scaled: Branch, weights: Mapping[str, float] | None, rule: str = "probabilities") -> Tensor:
    """Fuse the logits of several branches: the log of the weighted mean of their probabilities, or their weighted mean.

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
    """Raise a `ValueError` unless each candidate has one name, and no two the same."""
    if len(names) != text.embeds.shape[1]:
        raise ValueError(f"There must be one name per candidate, got {len(names)} names for {text.embeds.shape[1]}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{repeated[0]!r} names two candidates. Names must differ.")


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
    """Check that the numbers of videos and candidates agree."""
    first = frames.embeds if frames is not None else next(iter(inputs.values()))
    videos, candidates = first.shape[0], text.embeds.shape[1]  # `len` would fix the size of an exported batch
    for name, rows in inputs.items():
        if rows.shape[0] != videos:
            raise ValueError(f"{name} must have one row per video, got {rows.shape[0]} rows for {videos} videos.")
    if labels is not None and labels.shape not in ((videos,), (videos, candidates)):
        raise ValueError(
            f"labels must be class ids (B,) or multi-hot (B, K), got shape {tuple(labels.shape)} for {videos} videos and "
            f"{candidates} candidates."
        )
    if candidate_labels is not None and candidate_labels.shape != (candidates,):
        raise ValueError(
            f"candidate_labels must be one class id per candidate (K,), got shape {tuple(candidate_labels.shape)} for "
            f"{candidates} candidates."
        )
