"""SLLM: Sample Less, Learn More: Efficient Action Recognition via Frame Feature Restoration.

Harry Cheng, Yangyang Guo, Liqiang Nie, Zhiyong Cheng, Mohan Kankanhalli; ACM Multimedia 2023;
https://arxiv.org/abs/2307.14866.

Only every r-th sampled frame is decoded and encoded. A small transformer restores the features of the frames between
each pair of encoded ones, and the wrapped recognizer aggregates and matches the whole sequence as it always does.

Differences from the official code
- It wraps any recognizer; the official code is Text4Vis with r = 2 and a width of 512.
- All gaps of all videos are restored in one batch; the official code loops over them.
- The processor decodes the kept frames only; the official loader decodes and ships the others too.
- Frames are augmented before they are split, so that kept frames and targets show the same crop.
- The restorer is trained; the official default leaves it out of the optimizer, and its test script loads no positions.
- A video of one kept frame is recognized without restoration; the official code fails.

Differences from the paper (the code made the numbers, so it is the default; `SllmConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| eq. 7: attention without parameters, three layers | `restoration` | "ffres": transformer blocks with positions | "attention" |
| eq. 6: one vector for each direction | `pair_output` | "mean" of both tokens | "first", without which lambda has no effect |
| a frozen image encoder is the teacher | `teacher` | "live", without gradients | "frozen" |

- Where one frame of a gap is restored (Table 12), its target is the frame in the middle, which lambda = 0.5 stands for, or the
  mean of the two in the middle where r is odd; the paper names lambda only.
- The loss is KL(softmax(target) || softmax(restored)); eq. 10 as printed has the other sign, and would be maximized.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize, pad
from transformers import AutoModel

from kinoclip.methods.sllm.configuration_sllm import SllmConfig
from kinoclip.methods.sllm.restorers import RESTORATION_LOSSES, RESTORERS, Restorer
from kinoclip.modeling.layers.text_features import ensemble
from kinoclip.modeling.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.video.sampling import split_kept_frames


class SllmModel(VideoRecognizer):
    """SLLM: any recognizer, with fewer frames encoded and the others restored.

    The wrapped recognizer (`unwrap`) encodes, aggregates, scores and computes the matching loss.
    """

    config: SllmConfig
    supports_gradient_checkpointing = True
    _no_split_modules = ["CLIPEncoderLayer", "CLIPTextEmbeddings", "CLIPVisionEmbeddings"]

    def __init__(self, config: SllmConfig):
        super().__init__(config)
        self.recognizer = AutoModel.from_config(config.recognizer_config)
        self.restorer = None
        if config.restoration != "frozen_encoder" and config.restored_per_gap != "none":
            self.restorer = RESTORERS[config.restoration].for_config(config, self.recognizer.frame_width)
        self.teacher = None
        if config.teacher == "frozen" or config.restoration == "frozen_encoder":
            self.teacher = AutoModel.from_config(config.recognizer_config)
        self._register_candidates()
        self.post_init()

    @classmethod
    def from_recognizer(cls, recognizer: VideoRecognizer, **fields: object) -> Self:
        """Wrap a copy of a trained recognizer, with fields of `SllmConfig`; only the restorer is initialized."""
        model = cls(SllmConfig(recognizer_config=recognizer.config, **fields))
        model.recognizer.load_state_dict(recognizer.state_dict())
        if model.teacher is not None:
            model.teacher.load_state_dict(recognizer.state_dict())
        return model.to(recognizer.device, recognizer.dtype)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.restorer and isinstance(module, Restorer):  # the others initialize themselves
            module.reset_parameters()

    @property
    def constant_prefixes(self) -> tuple[str, ...]:
        """The teacher."""
        return ("teacher.",)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Initialize the modules, and what a wrapped recognizer initializes as a whole."""
        super().initialize_weights()
        for wrapped in filter(None, (self.recognizer, self.teacher)):
            wrapped.initialize_weights()

    def unwrap(self) -> VideoRecognizer:
        """Return the wrapped recognizer."""
        return self.recognizer

    @property
    def further_inputs(self) -> dict[str, str]:
        """Those of the wrapped recognizer, the times of the frames, and the discarded frames for the restoration loss."""
        return {**self.recognizer.further_inputs, "frame_times": "frames", "discarded_pixel_values": "loss"}

    def used_inputs(self) -> tuple[str, ...]:
        """Return those of the wrapped recognizer, the discarded frames and, if `time_aware`, the times of the frames."""
        times = ("frame_times",) if self.config.time_aware else ()
        return (*self.recognizer.used_inputs(), "discarded_pixel_values", *times)

    @property
    def frame_width(self) -> int:
        """D of the wrapped recognizer."""
        return self.recognizer.frame_width

    def drop_text_tower(self) -> Self:
        """Remove the text tower; only the candidates that the checkpoint carries remain."""
        for wrapped in filter(None, (self.recognizer, self.teacher)):
            wrapped.drop_text_tower()
        return self

    def encode_frames(self, pixel_values_videos: Tensor, frame_times: Tensor | None = None) -> FrameFeatures:
        """Encode the kept frames and restore the others: (B, K, 3, H, W) -> embeds (B, K + restored, D).

        With `restoration="frozen_encoder"` all frames (B, T, 3, H, W) are passed, and a frozen copy encodes the others.
        `frame_times` (B, T), of all sampled frames in any unit, are for `time_aware`; without them all gaps are even.
        """
        if self.config.restoration == "frozen_encoder":
            return self._encode_all(pixel_values_videos)
        return self._restore(self._encode(self.recognizer, pixel_values_videos), frame_times)

    def encode_fixed(
        self, pixel_values_videos: Tensor, discarded_pixel_values: Tensor | None = None, **inputs: Tensor
    ) -> FrameFeatures:
        """Encode the kept frames, and the discarded ones for the restoration loss; nothing is restored."""
        if self.config.restoration == "frozen_encoder" or self.config.time_aware:
            raise ValueError('Features cannot be stored with time_aware or restoration="frozen_encoder".')
        others = None if discarded_pixel_values is None else self._teach(discarded_pixel_values)
        return FrameFeatures(kept=self._encode(self.recognizer, pixel_values_videos), discarded=others)

    def complete_frames(self, frames: FrameFeatures) -> FrameFeatures:
        """Restore the frames between those that `encode_fixed` kept."""
        return frames if frames.kept is None else self._restore(frames.kept, discarded=frames.discarded)

    def _restore(self, frames: Tensor, times: Tensor | None = None, discarded: Tensor | None = None) -> FrameFeatures:
        if self.restorer is None or frames.shape[1] < 2:
            return FrameFeatures(embeds=frames)
        restored = self.restorer(frames, self._shares(times))
        gaps = torch.cat([frames[:, :-1, None], restored], 2).flatten(1, 2)
        return FrameFeatures(embeds=torch.cat([gaps, frames[:, -1:]], 1), discarded=discarded)

    def _encode(self, recognizer: VideoRecognizer, pixels: Tensor) -> Tensor:
        embeds = recognizer.encode_frames(pixels).embeds
        if embeds.shape[1] != pixels.shape[1]:
            raise ValueError(
                f"SLLM needs one vector per frame, but {type(recognizer).__name__} returns {embeds.shape[1]} vectors for "
                f"{pixels.shape[1]} frames. Configure it without joint or pooled time."
            )
        return embeds

    def _encode_all(self, pixels: Tensor) -> FrameFeatures:
        kept, between, _ = split_kept_frames(pixels.shape[1], self.config.rate)
        embeds = [self._encode(self.recognizer, pixels[:, kept])]
        if between:
            with torch.no_grad():
                embeds.append(self._encode(self.teacher.eval(), pixels[:, between]))
        order = torch.tensor([*kept, *between]).argsort().to(pixels.device)
        return FrameFeatures(embeds=torch.cat(embeds, 1)[:, order])

    def _shares(self, times: Tensor | None = None) -> Tensor:
        """Return lambda of the restored frames: (R,) of even gaps, or (B, K - 1, R) by the times (B, T) of the frames."""
        count, rate = self.config.restored_frames, self.config.rate
        even = torch.arange(1, count + 1) / (count + 1)
        if times is None or not self.config.time_aware:
            return even
        last = (times.shape[1] - 1) // rate * rate  # the last kept frame
        start, end = times[:, :last:rate, None], times[:, rate : last + 1 : rate, None]
        between = times[:, :last].unflatten(1, (-1, rate))[:, :, 1:]
        if self.config.restored_per_gap == "one":
            between = middle_frames(between[..., None])[..., 0]
        # a short video repeats frames, and a window may continue at the begin of the video
        return torch.where(end > start, (between - start) / (end - start), even.to(times))

    def encode_text(self, *args: Tensor, **inputs: Tensor) -> TextFeatures:
        """Encode the candidates with the wrapped recognizer."""
        return self.recognizer.encode_text(*args, **inputs)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool encoded and restored frames with the wrapped recognizer."""
        return self.recognizer.aggregate(frames, text)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score with the wrapped recognizer."""
        return self.recognizer.match(video, text)

    def candidates(self) -> TextFeatures | None:
        """Return the candidates that this checkpoint carries, or those of the wrapped recognizer."""
        return super().candidates() or self.recognizer.candidates()

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Compute the weight of each kept frame (B, K, T); that of a restored frame is divided among its two neighbors."""
        whole = self.recognizer.saliency(frames, text)
        step = self._step
        if whole is None or step == 1:
            return whole
        kept = whole[..., ::step].clone()
        shares = self._shares().to(whole)
        between = whole[..., :-1].unflatten(-1, (-1, step))[..., 1:]
        kept[..., :-1] += (between * (1 - shares)).sum(-1)
        kept[..., 1:] += (between * shares).sum(-1)
        return kept

    @property
    def _step(self) -> int:
        """Distance of two input frames among the frames that are matched."""
        return 1 if self.config.restoration == "frozen_encoder" else self.config.restored_frames + 1

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Collect the evidence of the wrapped recognizer for the input frames; restored ones have none."""
        if self.config.restoration == "frozen_encoder" and pixel_values_videos is not None:
            return self._explain_all(frames, text, pixel_values_videos)
        explanation = self.recognizer.explain(frames, text, pixel_values_videos)
        explanation.saliency = self.saliency(frames, text)
        if self._step > 1:
            kept = slice(None, None, self._step)
            explanation.frames = list(range(frames.embeds.shape[1]))[kept]
            if explanation.entities is not None:
                explanation.entities = explanation.entities[:, kept]
                explanation.entity_scores = explanation.entity_scores[:, kept]
        return explanation

    def _explain_all(self, frames: FrameFeatures, text: TextFeatures, pixels: Tensor) -> Explanation:
        """Collect the evidence for frames of which the frozen copy encoded some, with its attention maps.

        Frames after the last kept one do not take part and get zeros; entities are left out.
        """
        kept, between, _ = split_kept_frames(pixels.shape[1], self.config.rate)
        own = self.recognizer.explain(frames, text, pixels[:, kept])
        behind = pixels.shape[1] - len(kept) - len(between)
        if own.saliency is not None:
            own.saliency = pad(own.saliency, (0, behind))
        if own.attention is not None:
            maps = own.attention.new_zeros(pixels.shape[:2] + own.attention.shape[2:])
            maps[:, kept] = own.attention
            if between:
                maps[:, between] = self.teacher.explain(frames, text, pixels[:, between]).attention
            own.attention = maps
        return Explanation(saliency=own.saliency, attention=own.attention, english=own.english, chinese=own.chinese)

    def extra_losses(
        self, frames: FrameFeatures | None, text: TextFeatures, discarded_pixel_values: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compare restored features with the teacher's for the discarded frames (B, (K - 1)(r - 1), 3, H, W).

        Source: SLLM eq. 9-10; official `train.py`.
        """
        config = self.config
        is_given = discarded_pixel_values is not None or (frames is not None and frames.discarded is not None)
        if not is_given or self.restorer is None or config.restoration_loss == "none":
            return {}
        restored, targets = self.restoration_pairs(frames, discarded_pixel_values)
        compare = RESTORATION_LOSSES[config.restoration_loss]
        return {"restoration": config.restoration_weight * compare(restored.flatten(0, 2), targets.flatten(0, 2))}

    def restoration_pairs(self, frames: FrameFeatures, discarded_pixel_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the restored features of each gap and the teacher's for the discarded frames: (B, G, R, D) each."""
        config = self.config
        step = config.restored_frames + 1
        restored = frames.embeds[:, :-1].unflatten(1, (-1, step))[:, :, 1:]
        others = frames.discarded if discarded_pixel_values is None else discarded_pixel_values
        gaps, given = restored.shape[1], others.shape[1]
        if given != gaps * (config.rate - 1):
            raise ValueError(
                f"There must be {config.rate - 1} discarded frames for each of {gaps} gaps, got {given} in all. Make both with "
                "this model's processor."
            )
        targets = (others if others.ndim == 3 else self._teach(others)).unflatten(1, (gaps, -1))
        if config.restored_per_gap == "one":
            targets = middle_frames(targets)
        return restored, targets

    def _teach(self, pixels: Tensor) -> Tensor:
        teacher = self.recognizer if self.teacher is None else self.teacher
        differentiates = torch.is_grad_enabled() and not self.config.stop_gradient
        # a backbone with batch norm must not count these frames
        with evaluation_mode(teacher), torch.set_grad_enabled(differentiates):
            return self._encode(teacher, pixels)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Return what the wrapped recognizer does not train, and the teacher."""
        teacher = () if self.teacher is None else ("teacher.",)
        return (*teacher, *(f"recognizer.{prefix}" for prefix in self.recognizer.frozen_prefixes()))


def middle_frames(frames: Tensor) -> Tensor:
    """Return the middle of each gap (B, G, R, D), where lambda is 0.5: (B, G, 1, D).

    The middle frame where R is odd, the mean of the two middle ones where it is even.
    """
    count = frames.shape[2]
    return frames[:, :, (count - 1) // 2 : count // 2 + 1].mean(2, keepdim=True)


@torch.inference_mode()
def restored_cosine(
    model: SllmModel, processor: Any, batches: Iterable[Mapping[str, Tensor]], texts: Sequence[str]
) -> float | None:
    """Return the mean cosine of restored features and those of the discarded frames; None where nothing is restored.

    Source: SLLM Table 7.
    """
    if model.restorer is None:
        return None
    cosines: list[float] = []
    for batch in batches:
        frames = model.encode_frames(**frame_inputs(batch, model.device))
        restored, real = model.restoration_pairs(frames, batch["discarded_pixel_values"].to(model.device))
        cosines += cosine_similarity(restored, real, dim=-1).flatten(1).mean(1).tolist()
    return fmean(cosines)


@torch.inference_mode()
def label_similarity(
    model: SllmModel, processor: Any, batches: Iterable[Mapping[str, Tensor]], texts: Sequence[str]
) -> float:
    """Return the mean cosine of the text features of two different labels.

    Source: SLLM section 4.4.5, beside Table 9.
    """
    ids = {name: tensor.to(model.device) for name, tensor in processor.encode_labels(list(texts)).items()}
    embeds = normalize(ensemble(model.encode_text(**ids).embeds), dim=-1)
    count = len(embeds)
    return float(((embeds @ embeds.T).sum() - count) / (count * (count - 1)))


MEASUREMENTS = {"restored_cosine": restored_cosine, "label_similarity": label_similarity}
