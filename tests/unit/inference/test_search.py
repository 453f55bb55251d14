import shutil

import pytest
import torch
from torch.nn.functional import normalize

from kinoclip import Classifier, VideoDecodeError
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.inference.search import VideoEmbeddings, embed_videos, search

OBJECTS = ["red circle", "blue square", "green star"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of a clip of each object, and of one that is broken."""
    folder = tmp_path_factory.mktemp("clips")
    for name, clip in zip(OBJECTS, kinoshapes_clips(3, seed=2, labels=OBJECTS), strict=True):
        write_video(folder / f"{name}.mp4", clip.frames, clip.spec.fps)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def embeddings(classifier, clips):
    return embed_videos([clips], model=classifier, pooling="mean")


def test_each_query_finds_its_video_first(classifier, clips, embeddings):
    found = search(embeddings, OBJECTS, model=classifier, top_k=2)
    assert [matches[0].video for matches in found] == [str(clips / f"{name}.mp4") for name in OBJECTS]
    assert all(len(matches) == 2 for matches in found)


def test_the_score_is_the_cosine_of_the_mean_frame_and_the_query(classifier, clips, embeddings):
    pixels = classifier.read(str(clips / "red circle.mp4")).pixel_values
    with torch.inference_mode():
        frames = classifier.model.encode_frames(pixels).embeds[0]
        text = classifier.model.encode_text(**classifier.processor(text=["blue square"])).embeds[0, 0]
    expected = normalize(frames.mean(0), dim=0) @ normalize(text, dim=0)
    scores = dict(search(embeddings, "blue square", model=classifier)[0])
    assert scores[str(clips / "red circle.mp4")] == pytest.approx(float(expected), abs=1e-5)


def test_a_video_that_cannot_be_read_is_listed(clips, embeddings):
    assert len(embeddings.videos) == len(embeddings.embeds) == 3
    [(name, why)] = embeddings.unreadable.items()
    assert name == str(clips / "broken.mp4")
    assert why


def test_none_that_can_be_read_is_an_error(classifier, clips):
    with pytest.raises(VideoDecodeError, match="None of 1 videos could be read"):
        embed_videos([clips / "broken.mp4"], model=classifier, pooling="mean")


@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
def test_embeddings_come_back_from_a_file(embeddings, tmp_path, suffix):
    path = tmp_path / "new" / f"videos{suffix}"
    embeddings.save(path)
    back = VideoEmbeddings.load(path)
    assert torch.equal(back.embeds, embeddings.embeds)
    assert (back.videos, back.model, back.unreadable) == (embeddings.videos, embeddings.model, embeddings.unreadable)
    assert list(path.parent.iterdir()) == [path]


def test_kept_features_give_the_same_embeddings(classifier, clips, embeddings, tmp_path):
    options = {"model": classifier, "pooling": "mean", "features": tmp_path / "features"}
    for _ in range(2):
        assert torch.equal(embed_videos([clips], **options).embeds, embeddings.embeds)


def test_two_crops_are_averaged(clip_folder, clips):
    classifier = Classifier.load(clip_folder)
    classifier.video_processor.num_crops = 3
    found = embed_videos([clips / "red circle.mp4"], model=classifier, pooling="mean")
    assert found.embeds.shape == (1, 64)
    assert float(found.embeds.norm()) == pytest.approx(1, abs=1e-5)


def test_another_model_does_not_search(embeddings, bike_folder):
    with pytest.raises(ValueError, match="is another one"):
        search(embeddings, "red circle", model=bike_folder)


def test_the_same_model_under_another_name_does(embeddings, clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path / "moved")
    assert search(embeddings, "red circle", model=tmp_path / "moved")


def test_a_method_that_weighs_frames_by_label_says_what_can_be_done(classifier, clips):
    with pytest.raises(ValueError, match=r"weighs the frames anew for each label.*--pooling mean"):
        embed_videos([clips], model=classifier)
    # nothing of a refused question stays
    assert classifier.model.config.interaction == "saliency"


@pytest.mark.parametrize(
    ("queries", "options", "said"),
    [("red circle", {"top_k": 0}, "top_k is 0"), ("", {}, "not empty"), (["a", "a"], {}, "given twice")],
)
def test_bad_questions_are_told(classifier, embeddings, queries, options, said):
    with pytest.raises(ValueError, match=said):
        search(embeddings, queries, model=classifier, **options)


@pytest.mark.parametrize("name", ["videos.safetensors", "videos.parquet"])
@pytest.mark.parametrize("content", [b"", b"something else, and long enough"])
def test_a_file_of_something_else_is_told(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="holds no video embeddings"):
        VideoEmbeddings.load(tmp_path / name)


def test_the_weights_of_a_model_are_no_embeddings(bike_folder):
    with pytest.raises(ValueError, match="holds no video embeddings"):
        VideoEmbeddings.load(bike_folder / "model.safetensors")


def test_a_missing_file_and_another_ending_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="kinoclip embed"):
        VideoEmbeddings.load(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"Use \.safetensors or \.parquet"):
        VideoEmbeddings.load(tmp_path / "none.npy")
