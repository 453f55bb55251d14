"""Every recognizer answers from kept frame features as from pixels, and gives a video a vector or says why it cannot."""

import pytest
import torch

from kinoclip import Classifier
from kinoclip.inference.feature_cache import FeatureCache
from kinoclip.inference.search import embed_videos, search


@pytest.fixture
def classifier(closed, processor):
    classifier = Classifier(closed, processor, "model")
    classifier.set_labels(None)
    return classifier


def test_kept_features_give_the_same_answer(classifier, video_path, tmp_path):
    expected = classifier.answer(classifier.read(str(video_path)))
    cache = FeatureCache(tmp_path, classifier.model, classifier.video_processor)
    cache.encode([cache.read(str(video_path))])
    [answer] = classifier.answers(cache.encode([cache.read(str(video_path))]))
    assert dict(answer) == pytest.approx(dict(expected), abs=1e-6)
    assert answer.timestamps == expected.timestamps


def test_a_video_has_a_vector_of_its_own_or_the_mean_of_its_frames(recognizer, classifier, video_path):
    pixels = classifier.read(str(video_path)).pixel_values
    with torch.no_grad():
        before = classifier.model(pixel_values_videos=pixels).video_embeds
    pooling = "own"
    if before.ndim == 3:  # pooled for each label
        pooling = "mean"
        with pytest.raises(ValueError, match="--pooling mean"):
            embed_videos([video_path], model=classifier)
    found = embed_videos([video_path], model=classifier, pooling=pooling)
    assert found.embeds.norm(dim=-1).tolist() == pytest.approx([1.0], abs=1e-5)
    if recognizer.reads_text:
        [[match]] = search(found, "red circle", model=classifier)
        assert match.video == str(video_path)
    with torch.no_grad():
        torch.testing.assert_close(classifier.model(pixel_values_videos=pixels).video_embeds, before)
