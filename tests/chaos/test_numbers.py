"""Random inputs at the edges of what is allowed: the same as slow references, finite, and alike in every precision."""

import math
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from chaos.limits import IS_FULL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinoclip.evaluation import metrics
from kinoclip.inference.classifier import Classifier
from kinoclip.modeling.layers.saliency import frame_saliency
from kinoclip.modeling.layers.token_merging import merge_tokens, plan_merge
from kinoclip.modeling.losses import binary_cross_entropy, cross_entropy, dual_softmax, row_kl, symmetric_kl
from kinoclip.video.sampling import SamplingRule, sample_indices

EXAMPLES = 500 if IS_FULL else 25
attack = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.integers(1, 7)
seeds = st.integers(0, 2**31)


@pytest.fixture(autouse=True)
def _counted(request, record_property):
    if getattr(request.function, "is_hypothesis_test", False):
        record_property("outcomes", {"frames": EXAMPLES})


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@attack
@given(st.sampled_from(get_args(SamplingRule)), st.integers(1, 10**6), st.integers(1, 64), st.booleans(), seeds)
def test_sampled_frames_lie_in_the_video_in_order(rule, num_frames, num_samples, training, seed):
    num_frames = min(num_frames, 3000) if rule in ("motion", "cheapest") else num_frames
    motion = np.random.default_rng(seed).random(num_frames - 1) if rule == "motion" else None
    costs = np.random.default_rng(seed).integers(1, 99, num_frames) if rule == "cheapest" else None
    draws = [np.random.default_rng(seed) for _ in range(2)]
    first, again = (
        sample_indices(rule, num_frames, num_samples, rng=rng, training=training, motion=motion, costs=costs)
        for rng in draws
    )
    assert first == again
    assert len(first) == num_samples
    assert all(0 <= index < num_frames for index in first)
    assert all(a <= b for a, b in pairwise(first)) or rule in ("dense", "consecutive")  # these wrap around at the end


@attack
@given(sizes, sizes, seeds)
def test_top_k_accuracy_is_that_of_sorting(videos, classes, seed):
    scores, labels = normal(seed, videos, classes), torch.randint(classes, (videos,))
    for top_k in range(1, classes + 2):
        right = [int(label) in row.argsort(descending=True)[:top_k] for row, label in zip(scores, labels, strict=True)]
        assert metrics.topk_accuracy(scores, labels, top_k) == pytest.approx(sum(right) / videos)


@attack
@given(sizes, sizes, seeds)
def test_average_precision_is_that_of_counting(videos, classes, seed):
    scores, targets = normal(seed, videos, classes), (normal(seed + 1, videos, classes) > 0).long()
    found = metrics.average_precision(scores, targets)
    for column in range(classes):
        ranked = targets[scores[:, column].argsort(descending=True), column].tolist()
        precisions = [sum(ranked[: place + 1]) / (place + 1) for place, is_right in enumerate(ranked) if is_right]
        expected = sum(precisions) / len(precisions) if precisions else math.nan
        assert float(found[column]) == pytest.approx(expected, nan_ok=True)


@attack
@given(sizes, sizes, seeds, st.sampled_from([1e-3, 1.0, 100.0, 1e4]))
def test_losses_are_finite_not_negative_and_those_of_loops(videos, texts, seed, scale):
    logits = scale * normal(seed, videos, texts)
    match = torch.zeros(videos, texts)
    match[torch.arange(videos), torch.randint(texts, (videos,), generator=torch.Generator().manual_seed(seed))] = 1
    expected = sum(
        torch.logsumexp(row, 0) - row[right.bool()].mean() for row, right in zip(logits, match, strict=True)
    )
    torch.testing.assert_close(cross_entropy(logits, match), expected / videos, rtol=1e-4, atol=1e-4 * scale)
    for loss in (row_kl, symmetric_kl, cross_entropy, binary_cross_entropy):
        wanted = logits.clone().requires_grad_()
        value = loss(wanted, match)
        value.backward()
        assert value.isfinite()
        assert value >= -1e-4
        assert wanted.grad.isfinite().all()
    assert dual_softmax(logits).isfinite().all()


@attack
@given(sizes, st.integers(1, 9), sizes, sizes, seeds)
def test_saliency_sums_to_one_and_is_that_of_loops(videos, frames, texts, words, seed):
    frame = torch.nn.functional.normalize(normal(seed, videos, frames, 8), dim=-1)
    word = torch.nn.functional.normalize(normal(seed + 1, texts, words, 8), dim=-1)
    found = frame_saliency(frame, word)
    assert found.shape == (videos, texts, frames)
    torch.testing.assert_close(found.sum(-1), torch.ones(videos, texts))
    for b in range(videos):
        for k in range(texts):
            slow = torch.stack([((frame[b] @ w) / 0.01).softmax(0) for w in word[k]]).mean(0)
            torch.testing.assert_close(found[b, k], slow, rtol=1e-3, atol=1e-4)


@attack
@given(sizes, st.integers(1, 12), st.integers(0, 8), seeds)
def test_merging_keeps_every_patch_and_the_mean(images, tokens, number, seed):
    content = normal(seed, images, tokens, 6)
    plan = plan_merge(content, number)
    if plan is None:
        assert number == 0 or tokens < 3
        return
    merged, counts = merge_tokens(content, None, plan)
    assert merged.shape[1] == tokens - min(number, (tokens - 1) // 2)
    assert counts.sum(1).flatten().tolist() == [tokens] * images
    torch.testing.assert_close((merged * counts).sum(1), content.sum(1), rtol=1e-4, atol=1e-4)
    assert torch.equal(merged[:, 0], content[:, 0])


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load("mini")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_agrees_on_features(classifier, dtype, tolerance):
    """Largest difference, relative to the largest value of the float32 features."""
    frames = normal(3, 2, 3, 3, *[classifier.model.config.vision_config.image_size] * 2)
    with torch.inference_mode():
        exact = classifier.model.encode_frames(frames).embeds
        half = Classifier.load("mini", dtype=dtype).model.encode_frames(frames.to(dtype)).embeds
    assert (half.float() - exact).abs().max() < tolerance * exact.abs().max()


def test_batch_size_and_threads_change_nothing_but_rounding(classifier):
    frames = normal(4, 3, 2, 3, *[classifier.model.config.vision_config.image_size] * 2)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        together = classifier.model.encode_frames(frames).embeds
        again = classifier.model.encode_frames(frames).embeds
        alone = torch.cat([classifier.model.encode_frames(video[None]).embeds for video in frames])
        torch.set_num_threads(2)
        threaded = classifier.model.encode_frames(frames).embeds
        torch.set_num_threads(threads)
    assert torch.equal(together, again)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(threaded, together, rtol=1e-4, atol=1e-5)
