"""The networks that re-encode DSTPR's prompts (Tables 3 and 4). A new one is a class and a row of `MIXERS`."""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import relu


class Reparameterization(nn.Module):
    """Re-encode the prompts of a layer: linear down, a mixer of frames and prompts, linear up; or the mixer alone.

    Source: DSTPR eq. 12 and Fig. 4; widths, kernels and norms are not printed.
    """

    def __init__(self, config: Any):
        super().__init__()
        outer, mixer = config.vision_config.hidden_size, MIXERS[config.reparam]
        width = config.reparam_width or outer // 2
        self.residual = config.reparam_residual
        self.down = nn.Linear(outer, width) if config.reparam_bottleneck else None
        self.mixer = mixer(width if config.reparam_bottleneck else outer, config)
        self.up = nn.Linear(width, outer) if config.reparam_bottleneck else None
        if self.up is not None:
            self.up.starts_at_zero = config.reparam_zero_init and config.reparam_residual

    def forward(self, prompts: Tensor) -> Tensor:
        """Re-encode prompts (B, T, P, C): (B, T, P, C)."""
        added = self.mixer(prompts if self.down is None else relu(self.down(prompts)))
        added = added if self.up is None else self.up(added)
        return prompts + added if self.residual else added


class Mixer(nn.Module):
    """A network over the frames and prompts of a layer, the base class of `MIXERS`; this one mixes nothing (the MLP).

    Attributes:
        width_step: its width must be a multiple of it.
    """

    width_step: ClassVar[int] = 1

    def __init__(self, width: int, config: Any):
        super().__init__()

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return hidden


class FactorizedConvolution(Mixer):
    """Convolve over the prompts of a frame, then over the frames of a prompt.

    Source: R(2+1)D (CVPR 2018), the paper's default.
    """

    def __init__(self, width: int, config: Any):
        super().__init__(width, config)
        kernel = _spatial_kernel(config)
        # as many parameters as one convolution over time and space would have
        area = kernel[0] * kernel[1]
        middle = width if config.st_mid == "width" else 3 * area * width * width // (area * width + 3 * width)
        self.spatial = _convolution(width, middle, 1, *kernel)
        self.norm = _norm(middle, config)
        self.temporal = _convolution(middle, width, 3, 1, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        volume = relu(self.norm(self.spatial(_to_volume(hidden))))
        return _from_volume(self.temporal(volume))


class JointConvolution(Mixer):
    """Convolve over frames and prompts at once (C3D, ICCV 2015)."""

    def __init__(self, width: int, config: Any):
        super().__init__(width, config)
        self.convolution = _convolution(width, width, 3, *_spatial_kernel(config))
        self.norm = _norm(width, config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return _from_volume(relu(self.norm(self.convolution(_to_volume(hidden)))))


class TemporallyAdaptiveConvolution(Mixer):
    """Convolve over the prompts of a frame, with a weight that is calibrated for each frame (TAdaConv, ICLR 2022).

    The calibration depends on the means of the neighboring frames and of the video, and is initially one.
    """

    width_step = 4

    def __init__(self, width: int, config: Any):
        super().__init__(width, config)
        self.convolution = _convolution(width, width, 1, config.st_kernel_spatial, 1)
        self.video = nn.Linear(width, width)
        self.squeeze = nn.Conv1d(width, width // 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(width // 4)
        self.expand = nn.Conv1d(width // 4, width, 3, padding=1, bias=False)
        self.expand.starts_at_zero = True

    def calibrate(self, hidden: Tensor) -> Tensor:
        """Compute the factor of each input channel in each frame: (B, T, P, W) -> (B, T, W)."""
        frames = hidden.mean(2)
        frames = frames + self.video(frames.mean(1, keepdim=True))
        squeezed = relu(self.norm(self.squeeze(frames.transpose(1, 2))))
        return 1 + self.expand(squeezed).transpose(1, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        # a factor on the input channels of a weight is one on the input
        calibrated = hidden * self.calibrate(hidden)[:, :, None]
        return _from_volume(self.convolution(_to_volume(calibrated)))


class RecurrentMixer(Mixer):
    """Bidirectional LSTM over all prompts, frame by frame."""

    width_step = 2

    def __init__(self, width: int, config: Any):
        super().__init__(width, config)
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return self.lstm(hidden.flatten(1, 2))[0].unflatten(1, hidden.shape[1:3])


class AttentiveMixer(Mixer):
    """Self-attention over all prompts of a video, in two layers."""

    def __init__(self, width: int, config: Any):
        super().__init__(width, config)
        heads = width // 64 if width % 64 == 0 else 1
        layers = [
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return self.layers(hidden.flatten(1, 2)).unflatten(1, hidden.shape[1:3])


class ChannelLayerNorm(nn.LayerNorm):
    """Normalize the channels (B, W, ...) of each position."""

    def forward(self, volume: Tensor) -> Tensor:
        """Normalize; the shape stays the same."""
        return super().forward(volume.movedim(1, -1)).movedim(-1, 1)


# value of `reparam` to the network
MIXERS: dict[str, type[Mixer]] = {
    "mlp": Mixer,
    "lstm": RecurrentMixer,
    "transformer": AttentiveMixer,
    "r2plus1d": FactorizedConvolution,
    "c3d": JointConvolution,
    "tada": TemporallyAdaptiveConvolution,
}


def _to_volume(hidden: Tensor) -> Tensor:
    """Rearrange prompts (B, T, P, W) to a volume (B, W, T, P, 1), with the prompts as the only axis of space."""
    return hidden.movedim(-1, 1)[..., None]


def _from_volume(volume: Tensor) -> Tensor:
    return volume[..., 0].movedim(1, -1)


def _spatial_kernel(config: Any) -> tuple[int, int]:
    size = config.st_kernel_spatial
    return size, size if config.st_kernel_2d else 1


def _convolution(inputs: int, outputs: int, *kernel: int) -> nn.Conv3d:
    """Build a convolution over (T, P, 1) that keeps the shape."""
    return nn.Conv3d(inputs, outputs, kernel, padding=tuple(size // 2 for size in kernel))


def _norm(width: int, config: Any) -> nn.Module:
    if config.st_norm == "batch":
        return nn.BatchNorm3d(width)
    return ChannelLayerNorm(width) if config.st_norm == "layer" else nn.Identity()
