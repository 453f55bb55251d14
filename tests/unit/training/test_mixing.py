import pytest
import torch

from kinoclip.training.mixing import TargetMixer
from kinoclip.training.settings import DataSettings


def _batch():
    pixels = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8).clone()
    return {"pixel_values_videos": pixels, "labels": torch.tensor([0, 1, 2, 0])}


def test_nothing_is_changed_without_a_wish():
    batch = _batch()
    assert TargetMixer(DataSettings(), 3)(batch) is batch


def test_smoothing_gives_every_class_its_share():
    labels = TargetMixer(DataSettings(label_smoothing=0.3), 3)(_batch())["labels"]
    # 0.7 + 0.3 / 3 for the right class, 0.3 / 3 for the others
    torch.testing.assert_close(labels[0], torch.tensor([0.8, 0.1, 0.1]))


def test_mixup_mixes_pixels_and_labels_in_the_same_share():
    torch.manual_seed(0)
    mixed = TargetMixer(DataSettings(mixup=0.8), 3)(_batch())
    # video 1 is all ones and the one before it all zeros, so a pixel is the share of video 1
    share = mixed["pixel_values_videos"][1, 0, 0, 0, 0]
    assert 0 < share < 1
    torch.testing.assert_close(mixed["labels"][1], torch.tensor([1 - share, share, 0.0]))


def test_cutmix_pastes_the_same_rectangle_into_every_frame_and_counts_its_area():
    torch.manual_seed(1)
    mixed = TargetMixer(DataSettings(cutmix=1.0), 3)(_batch())
    video = mixed["pixel_values_videos"][1]
    assert torch.equal(video[0], video[1])
    assert set(video.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(mixed["labels"][1, 1], video.mean())


def test_kept_and_discarded_frames_are_mixed_alike():
    torch.manual_seed(0)
    batch = _batch()
    batch["discarded_pixel_values"] = batch["pixel_values_videos"][:, :1].clone()
    mixed = TargetMixer(DataSettings(mixup=0.8, cutmix=1.0), 3)(batch)
    assert torch.equal(mixed["pixel_values_videos"][:, :1], mixed["discarded_pixel_values"])
    assert type(mixed["pixel_values_videos"]) is torch.Tensor


@pytest.mark.parametrize("labels", [torch.tensor([[1, 1, 0], [0, 0, 0]])])
def test_several_labels_share_the_target_before_it_is_smoothed(labels):
    batch = {"pixel_values_videos": torch.zeros(2, 1, 3, 4, 4), "labels": labels}
    shares = TargetMixer(DataSettings(label_smoothing=0.3), 3)(batch)["labels"]
    torch.testing.assert_close(shares[0], torch.tensor([0.45, 0.45, 0.1]))
