"""The network that re-encodes prompts, beta of eq. 12, and what can stand in its middle (Table 3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from .configuration_dstpr import DstprConfig


class Reparameterization(nn.Module):
    """Re-encode the prompts of a layer: down, a block that mixes frames and prompts, up.

    Source: DSTPR eq. 12 and Fig. 4; widths, kernels and norms are not printed.
    """

    def __init__(self, config: DstprConfig):
        super().__init__()
        outer = config.vision_config.hidden_size
        width = config.reparam_width or outer // 2
        self.residual = config.reparam_residual
        self.down = nn.Linear(outer, width)
        self.mixer = None if config.reparam == "mlp" else MIXERS[str(config.reparam)](width, config)
        self.up = nn.Linear(width, outer)

    def forward(self, prompts: Tensor) -> Tensor:
        """Give prompts (B, T, P, C) for prompts (B, T, P, C)."""
        hidden = relu(self.down(prompts))
        if self.mixer is not None:
            hidden = self.mixer(hidden)
        added = self.up(hidden)
        return prompts + added if self.residual else added


class FactorizedConvolution(nn.Module):
    """Convolve over the prompts of a frame, then over the frames of a prompt.

    Source: R(2+1)D (CVPR 2018), the paper's default.
    """

    def __init__(self, width: int, config: DstprConfig):
        super().__init__()
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


class JointConvolution(nn.Module):
    """Convolve over frames and prompts at once (C3D, ICCV 2015)."""

    def __init__(self, width: int, config: DstprConfig):
        super().__init__()
        self.convolution = _convolution(width, width, 3, *_spatial_kernel(config))
        self.norm = _norm(width, config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return _from_volume(relu(self.norm(self.convolution(_to_volume(hidden)))))


class TemporallyAdaptiveConvolution(nn.Module):
    """Convolve over the prompts of a frame, with a weight that is calibrated for each frame (TAdaConv, ICLR 2022).

    The calibration looks at the means of the neighboring frames and of the video, and starts at one.
    """

    def __init__(self, width: int, config: DstprConfig):
        super().__init__()
        self.convolution = _convolution(width, width, 1, config.st_kernel_spatial, 1)
        self.video = nn.Linear(width, width)
        self.squeeze = nn.Conv1d(width, width // 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(width // 4)
        self.expand = nn.Conv1d(width // 4, width, 3, padding=1, bias=False)

    def calibrate(self, hidden: Tensor) -> Tensor:
        """Give the factor of each input channel in each frame: (B, T, P, W) -> (B, T, W)."""
        frames = hidden.mean(2)
        frames = frames + self.video(frames.mean(1, keepdim=True))
        squeezed = relu(self.norm(self.squeeze(frames.transpose(1, 2))))
        return 1 + self.expand(squeezed).transpose(1, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        # a factor on the input channels of a weight is one on the input
        calibrated = hidden * self.calibrate(hidden)[:, :, None]
        return _from_volume(self.convolution(_to_volume(calibrated)))


class RecurrentMixer(nn.Module):
    """Read all prompts, frame by frame, in both directions."""

    def __init__(self, width: int, config: DstprConfig):
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """Mix (B, T, P, W)."""
        return self.lstm(hidden.flatten(1, 2))[0].unflatten(1, hidden.shape[1:3])


class AttentiveMixer(nn.Module):
    """Let all prompts of a video look at each other, in two layers."""

    def __init__(self, width: int, config: DstprConfig):
        super().__init__()
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
        """Give a volume of the same shape."""
        return super().forward(volume.movedim(1, -1)).movedim(-1, 1)


MIXERS: dict[str, type[nn.Module]] = {
    "lstm": RecurrentMixer,
    "transformer": AttentiveMixer,
    "r2plus1d": FactorizedConvolution,
    "c3d": JointConvolution,
    "tada": TemporallyAdaptiveConvolution,
}


def _to_volume(hidden: Tensor) -> Tensor:
    """Make of prompts (B, T, P, W) a volume (B, W, T, P, 1): the prompts are the only axis of space."""
    return hidden.movedim(-1, 1)[..., None]


def _from_volume(volume: Tensor) -> Tensor:
    return volume[..., 0].movedim(1, -1)


def _spatial_kernel(config: DstprConfig) -> tuple[int, int]:
    size = config.st_kernel_spatial
    return size, size if config.st_kernel_2d else 1


def _convolution(inputs: int, outputs: int, *kernel: int) -> nn.Conv3d:
    """Give a convolution over (T, P, 1) that keeps the shape."""
    return nn.Conv3d(inputs, outputs, kernel, padding=tuple(size // 2 for size in kernel))


def _norm(width: int, config: DstprConfig) -> nn.Module:
    if config.st_norm == "batch":
        return nn.BatchNorm3d(width)
    return ChannelLayerNorm(width) if config.st_norm == "layer" else nn.Identity()
