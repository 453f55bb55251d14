"""Explanations are compared with the truth of KinoFigures."""

import numpy as np
import torch

from kinoclip.inference.backends import load_recognizer
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.training.reasons import _compare, _patches, measure_reasons


def test_patches_named_after_what_they_show_all_hit_and_others_do_by_chance():
    clip = render_figures(FigureSpec((FigureSegment("drinking", 0, 16),), place="kitchen", seed=7))
    head = torch.from_numpy(clip.mask("head")[[3, 8]])[:, :, 16:112]  # 96 of 128 columns
    shown = head.unflatten(1, (6, 16)).unflatten(3, (6, 16)).any(4).any(2)  # patches of 16 pixels
    share = shown.flatten(1).double().mean(1).tolist()
    named = torch.where(shown, 1, 0)
    assert list(_compare(clip, [3, 8], named, ["grass", "head"])) == [(1.0, share[0]), (1.0, share[1])]
    everywhere = torch.ones_like(named)
    assert list(_compare(clip, [3, 8], everywhere, ["grass", "head"])) == [(each, each) for each in share]


def test_a_model_that_weighs_frames_is_measured_by_the_spans_of_actions():
    found = measure_reasons(*load_recognizer("mini"), 1)
    assert set(found) == {"saliency_on_action", "action_share", "attention_on_person", "person_share"}
    assert all(0 < share < 1 for share in found.values())


def test_attention_on_the_patches_of_a_person_counts():
    mask = np.zeros((2, 96, 128), bool)
    mask[1, 40, 30] = True  # 14 columns right of the middle square's left end
    shown = torch.zeros(2, 6, 6, dtype=bool)
    shown[1, 2, 0] = True
    assert torch.equal(_patches(mask, (6, 6)), shown)
