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

Differences from the paper (the code made the numbers, so it is the default)
- The restorer is three transformer blocks with positions, and each direction is the mean of its two tokens
  (`pair_output`); eq. 7 is attention without parameters.
- The teacher is the live encoder without gradients (`teacher="frozen"` for the paper's).
- The loss is KL(softmax(target) || softmax(restored)); eq. 10 as printed has the other sign, and would be maximized.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPPreTrainedModel

from kinoclip.outputs import FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video.sampling import split_kept_frames

from .configuration_sllm import SllmConfig

# the official table has as many rows as CLIP's text has positions; only the first r + 1 are ever used
_POSITIONS = 77


class FrameRestorer(CLIPPreTrainedModel):
    """Restore the features of the frames between two encoded ones.

    Source: SLLM eq. 6-8; official `restore_image`.
    """

    config: CLIPTextConfig
    config_class = CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.position_embedding = nn.Embedding(_POSITIONS, config.hidden_size)
        self.encoder = CLIPEncoder(config)
        self.placeholders = None
        if config.num_placeholders:
            self.placeholders = nn.Parameter(torch.empty(config.num_placeholders, config.hidden_size))
        self.post_init()

    @staticmethod
    def derive_config(config: SllmConfig, width: int) -> CLIPTextConfig:
        """Give the restorer's shape: blocks as in the temporal head, with width / 64 heads."""
        fills = config.restoration == "placeholders"
        return CLIPTextConfig(
            vocab_size=1,  # it reads frames, not tokens
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=config.restorer_layers,
            num_attention_heads=max(1, width // 64),
            hidden_act="quick_gelu",
            layer_norm_eps=1e-12,  # BERT-style LayerNorm of the official head
            **{
                "attn_implementation": config._attn_implementation,
                "num_placeholders": restored_per_gap(config) if fills else 0,
                "pair_output": config.pair_output,
            },
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # torch's own defaults: the official initializer does not reach the restorer
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = module.in_features**-0.5
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif module is self and self.placeholders is not None:
            init.normal_(self.placeholders, std=self.config.initializer_range)

    def directions(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer over all pairs of neighbors, once in each order.

        Args:
            frames: (B, K, D), not unit length.

        Returns:
            Left before right and right before left, (B, K - 1, D) each.
        """
        left, right = frames[:, :-1], frames[:, 1:]
        pairs = torch.stack([torch.stack([left, right], 2), torch.stack([right, left], 2)])  # (2, B, K - 1, 2, D)
        positions = self.position_embedding.weight[:2].to(frames.dtype)
        tokens = self.encoder(pairs.flatten(0, 2) + positions, None).last_hidden_state
        pooled = tokens.mean(1) if self.config.pair_output == "mean" else tokens[:, 0]
        left_first, right_first = pooled.unflatten(0, pairs.shape[:3])
        return left_first, right_first

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore the frames between neighbors.

        Args:
            frames: (B, K, D), not unit length.
            shares: (R,), where in its gap each restored frame lies, from 0 at the left to 1 at the right.

        Returns:
            (B, K - 1, R, D).
        """
        if self.placeholders is not None:
            return self._fill(frames)
        left_first, right_first = (direction[:, :, None] for direction in self.directions(frames))
        shares = shares.to(frames)[:, None]
        return (1 - shares) * left_first + shares * right_first

    def _fill(self, frames: Tensor) -> Tensor:
        """Let the transformer write learned placeholders between each pair; source: SLLM Table 13, as we read it."""
        count = len(self.placeholders)
        pairs = torch.stack([frames[:, :-1], frames[:, 1:]], 2)  # (B, K - 1, 2, D)
        inner = self.placeholders.to(frames.dtype).expand(*pairs.shape[:2], count, -1)
        tokens = torch.cat([pairs[:, :, :1], inner, pairs[:, :, 1:]], 2)
        positions = self.position_embedding.weight[: count + 2].to(frames.dtype)
        filled = self.encoder(tokens.flatten(0, 1) + positions, None).last_hidden_state
        return filled[:, 1:-1].unflatten(0, pairs.shape[:2])


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
        self, input_ids: Tensor, attention_mask: Tensor | None = None, word_mask: Tensor | None = None
    ) -> TextFeatures:
        """Encode the candidates as the wrapped recognizer does."""
        return self.recognizer.encode_text(input_ids, attention_mask, word_mask)

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

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the wrapped recognizer's loss."""
        return self.recognizer.criterion(logits, match)

    def candidates(self) -> TextFeatures | None:
        """Give the candidates that this checkpoint carries, or those of the wrapped recognizer."""
        return super().candidates() or self.recognizer.candidates()

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Tell how much each kept frame counts, (B, K, T); a restored frame counts for the two it was restored from."""
        whole = self.recognizer.saliency(frames, text)
        step = restored_per_gap(self.config) + 1
        if whole is None or step == 1 or self.config.restoration == "frozen_encoder":
            return whole
        kept = whole[..., ::step].clone()
        shares = self._shares().to(whole)
        between = whole[..., :-1].unflatten(-1, (-1, step))[..., 1:]
        kept[..., :-1] += (between * (1 - shares)).sum(-1)
        kept[..., 1:] += (between * shares).sum(-1)
        return kept

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
            targets = targets.mean(2, keepdim=True)
        loss = restoration_kl(restored.flatten(0, 2), targets.flatten(0, 2))
        return {"restoration": config.restoration_weight * loss}

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


def restored_per_gap(config: SllmConfig) -> int:
    """Give how many frames are restored between two kept ones."""
    return {"all": config.rate - 1, "one": 1, "none": 0}[config.restored_per_gap]


def restoration_kl(restored: Tensor, targets: Tensor) -> Tensor:
    """Give KL(softmax(target) || softmax(restored)) over the features (N, D), averaged over N.

    A constant added to all features of a frame does not count; matching takes care of that.

    Source: official `train.py`.
    """
    target = targets.float().log_softmax(-1)
    return (target.exp() * (target - restored.float().log_softmax(-1))).sum(-1).mean()
