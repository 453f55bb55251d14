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

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoModel

from kinoclip.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video.sampling import split_kept_frames

from .configuration_sllm import SllmConfig
from .restorer import FrameRestorer, restored_per_gap


class SllmModel(VideoRecognizer):
    """SLLM: any recognizer, with fewer frames encoded and the others restored."""

    config: SllmConfig
    config_class = SllmConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["CLIPEncoderLayer", "CLIPTextEmbeddings", "CLIPVisionEmbeddings"]
    loss_inputs: ClassVar[tuple[str, ...]] = ("discarded_pixel_values",)

    def __init__(self, config: SllmConfig):
        super().__init__(config)
        self.recognizer = AutoModel.from_config(config.recognizer_config)
        self.restorer = None
        if config.restoration != "frozen_encoder" and config.restored_per_gap != "none":
            shape = FrameRestorer.derive_config(config, self.recognizer.frame_width)
            self.restorer = FrameRestorer._from_config(shape)
        self.teacher = None
        if config.teacher == "frozen" or config.restoration == "frozen_encoder":
            self.teacher = AutoModel.from_config(config.recognizer_config)
        self._register_candidates()
        self.post_init()

    @classmethod
    def from_recognizer(cls, recognizer: VideoRecognizer, **fields: object) -> SllmModel:
        """Wrap a trained recognizer; only the restorer is left to initialize.

        Args:
            recognizer: any of this package; its weights are copied.
            fields: of `SllmConfig`.
        """
        model = cls(SllmConfig(recognizer_config=recognizer.config, **fields))
        model.recognizer.load_state_dict(recognizer.state_dict())
        if model.teacher is not None:
            model.teacher.load_state_dict(recognizer.state_dict())
        return model.to(recognizer.device, recognizer.dtype)

    @property
    def branch_inputs(self) -> tuple[str, ...]:
        """The inputs of the wrapped recognizer's branches."""
        return self.recognizer.branch_inputs

    @property
    def text_inputs(self) -> tuple[str, ...]:
        """The further texts that the wrapped recognizer reads."""
        return self.recognizer.text_inputs

    @property
    def frame_width(self) -> int:
        """D of the frames."""
        return self.recognizer.frame_width

    @property
    def logit_scale(self) -> Tensor:
        """The wrapped recognizer's."""
        return self.recognizer.logit_scale

    def drop_text_tower(self) -> SllmModel:
        """Leave out the text tower: the candidates that the checkpoint carries are then the only ones."""
        self.recognizer.drop_text_tower()
        return self

    def used_branch_inputs(self) -> tuple[str, ...]:
        """Name the branch inputs that the wrapped recognizer can use."""
        return self.recognizer.used_branch_inputs()

    def used_text_inputs(self) -> tuple[str, ...]:
        """Name the further texts that the wrapped recognizer can read."""
        return self.recognizer.used_text_inputs()

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode the kept frames and restore the others: (B, K, 3, H, W) -> embeds (B, K + restored, D).

        With `restoration="frozen_encoder"` all frames are given, (B, T, 3, H, W), and a frozen copy encodes the others.

        Raises:
            ValueError: the wrapped recognizer does not give one vector for each frame.
        """
        if self.config.restoration == "frozen_encoder":
            return self._encode_all(pixel_values_videos)
        frames = self._encode(self.recognizer, pixel_values_videos)
        if self.restorer is None or frames.shape[1] < 2:
            return FrameFeatures(embeds=frames)
        restored = self.restorer(frames, self._shares())
        gaps = torch.cat([frames[:, :-1, None], restored], 2).flatten(1, 2)
        return FrameFeatures(embeds=torch.cat([gaps, frames[:, -1:]], 1))

    def _encode(self, recognizer: VideoRecognizer, pixels: Tensor) -> Tensor:
        embeds = recognizer.encode_frames(pixels).embeds
        if embeds.shape[1] != pixels.shape[1]:
            raise ValueError(
                f"{type(recognizer).__name__} gives {embeds.shape[1]} vectors for {pixels.shape[1]} frames. "
                "SLLM can restore only what is encoded frame by frame: configure it without joint or pooled time."
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

    def _shares(self) -> Tensor:
        count = restored_per_gap(self.config)
        return torch.arange(1, count + 1) / (count + 1)

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Encode the candidates as the wrapped recognizer does."""
        return self.recognizer.encode_text(input_ids, attention_mask, word_mask, **inputs)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool encoded and restored frames as the wrapped recognizer pools its own."""
        return self.recognizer.aggregate(frames, text)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score as the wrapped recognizer does."""
        return self.recognizer.match(video, text)

    def branches(self, video: Tensor | None, text: TextFeatures, **inputs: Tensor) -> dict[str, Tensor]:
        """Vote as the wrapped recognizer does."""
        return self.recognizer.branches(video, text, **inputs)

    def scales(self) -> dict[str, Tensor]:
        """Give the factors of the wrapped recognizer."""
        return self.recognizer.scales()

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Scale as the wrapped recognizer does."""
        return self.recognizer.scale_votes(votes, video, text)

    def fuse(self, scaled: dict[str, Tensor]) -> Tensor:
        """Fuse the branches as the wrapped recognizer does."""
        return self.recognizer.fuse(scaled)

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the wrapped recognizer's loss."""
        return self.recognizer.criterion(logits, match)

    def candidates(self) -> TextFeatures | None:
        """Give the candidates that this checkpoint carries, or those of the wrapped recognizer."""
        return super().candidates() or self.recognizer.candidates()

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Tell how much each kept frame counts, (B, K, T); a restored frame counts for the two it was restored from."""
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
        """From one frame that is given to the next, among those that are matched."""
        return 1 if self.config.restoration == "frozen_encoder" else restored_per_gap(self.config) + 1

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Explain the frames that are given, as the wrapped recognizer does; there is nothing to see in restored ones."""
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
        """Explain frames of which the frozen copy encoded some, and looked at them itself.

        What comes behind the last kept frame takes no part, and gets zeros; entities are not looked up.
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
        """Compare restored frames with what the teacher makes of the discarded ones (B, (K - 1)(r - 1), 3, H, W).

        Raises:
            ValueError: the number of discarded frames does not fit the number of kept ones.

        Source: SLLM eq. 9-10; official `train.py`.
        """
        config = self.config
        if discarded_pixel_values is None or self.restorer is None or config.restoration_loss == "none":
            return {}
        restored, targets = self.restoration_pairs(frames, discarded_pixel_values)
        return {
            "restoration": config.restoration_weight * restoration_kl(restored.flatten(0, 2), targets.flatten(0, 2))
        }

    def restoration_pairs(self, frames: FrameFeatures, discarded_pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored features of each gap and what the teacher makes of the discarded frames: (B, G, R, D) each.

        Raises:
            ValueError: the number of discarded frames does not fit the number of kept ones.
        """
        config = self.config
        step = restored_per_gap(config) + 1
        restored = frames.embeds[:, :-1].unflatten(1, (-1, step))[:, :, 1:]
        gaps, given = restored.shape[1], discarded_pixel_values.shape[1]
        if given != gaps * (config.rate - 1):
            raise ValueError(
                f"{given} discarded frames were given for {gaps} gaps of {config.rate - 1}. "
                "Make both with this model's processor."
            )
        targets = self._teach(discarded_pixel_values).unflatten(1, (gaps, -1))
        if config.restored_per_gap == "one":
            targets = middle_frames(targets)
        return restored, targets

    def _teach(self, pixels: Tensor) -> Tensor:
        teacher = self.recognizer if self.teacher is None else self.teacher
        was_training = teacher.training
        teacher.eval()  # a backbone with batch norm must not count these frames
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.stop_gradient):
                return self._encode(teacher, pixels)
        finally:
            teacher.train(was_training)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name what the wrapped recognizer does not train, and the teacher."""
        teacher = () if self.teacher is None else ("teacher.",)
        return (*teacher, *(f"recognizer.{prefix}" for prefix in self.recognizer.frozen_prefixes()))


def middle_frames(frames: Tensor) -> Tensor:
    """Return what lies in the middle of each gap (B, G, R, D), where lambda is 0.5: (B, G, 1, D).

    The middle frame where R is odd, the mean of the two middle ones where it is even.
    """
    count = frames.shape[2]
    return frames[:, :, (count - 1) // 2 : count // 2 + 1].mean(2, keepdim=True)


def restoration_kl(restored: Tensor, targets: Tensor) -> Tensor:
    """Give KL(softmax(target) || softmax(restored)) over the features (N, D), averaged over N.

    A constant added to all features of a frame does not count; matching takes care of that.

    Source: official `train.py`.
    """
    target = targets.float().log_softmax(-1)
    return (target.exp() * (target - restored.float().log_softmax(-1))).sum(-1).mean()
