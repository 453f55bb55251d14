"""What a training of the mini CLIP needs to know."""

from dataclasses import dataclass

PROMPT = "This is a video about {}"


@dataclass(frozen=True)
class Settings:
    """Sizes, lengths and weights of one training.

    Training ends after `steps` where they are given, else after `minutes`. Only the first repeats exactly. Both towers
    have width / 64 heads, as every CLIP of OpenAI has.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float = 15.0
    pool_clips: int = 4000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    dense_weight: float = 1.0
    detail_weight: float = 0.5
    even_weight: float = 0.5
    padded_share: float = 0.2
    image_size: int = 48
    patch_size: int = 8
    vision_width: int = 64
    vision_layers: int = 6
    text_width: int = 64
    text_layers: int = 2

    @property
    def grid(self) -> int:
        """Patches along one side of an image."""
        return self.image_size // self.patch_size
