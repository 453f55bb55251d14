"""Embeddings of videos, and search by text."""

import shutil

import pytest
import torch
from clip_files import write_clips
from safetensors.torch import save_file
from torch.nn.functional import normalize

from kinoclip import Classifier, VideoDecodeError
from kinoclip.inference.search import VideoEmbeddings, embed_videos, search
from kinoclip.kinoshapes import kinoshapes_clips

OBJECTS = ["red circle", "blue square", "green star"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with a clip of each object, and a broken one."""
    clips = kinoshapes_clips(3, seed=2, labels=OBJECTS)
    folder = write_clips(tmp_path_factory.mktemp("clips"), clips, "{clip.label}.mp4")
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


def test_unreadable_videos_are_listed_and_an_error_if_there_are_no_others(classifier, clips, embeddings):
    assert len(embeddings.videos) == len(embeddings.embeds) == 3
    assert [*embeddings.unreadable] == [str(clips / "broken.mp4")]
    with pytest.raises(VideoDecodeError, match="None of 1 videos could be read"):
        embed_videos([clips / "broken.mp4"], model=classifier, pooling="mean")


def test_embeddings_come_back_from_a_file(embeddings, tmp_path):
    path = tmp_path / "new" / "videos.safetensors"
    embeddings.save(path)
    back = VideoEmbeddings.load(path)
    assert torch.equal(back.embeds, embeddings.embeds)
    assert (back.videos, back.model, back.unreadable) == (embeddings.videos, embeddings.model, embeddings.unreadable)
    assert list(path.parent.iterdir()) == [path]


def test_stored_features_give_the_same_embeddings(classifier, clips, embeddings, tmp_path):
    options = {"model": classifier, "pooling": "mean", "features": tmp_path / "features"}
    for _ in range(2):
        assert torch.equal(embed_videos([clips], **options).embeds, embeddings.embeds)
    classifier.features = None


@pytest.mark.usefixtures("two_threads")
def test_two_cores_give_the_embeddings_of_one(classifier, clips):
    videos = [clips / f"{name}.mp4" for name in OBJECTS[:2]]
    together = embed_videos(videos, model=classifier, pooling="mean")
    torch.set_num_threads(1)
    alone = embed_videos(videos, model=classifier, pooling="mean")
    torch.set_num_threads(2)
    assert torch.equal(together.embeds, alone.embeds)


def test_crops_are_averaged(clip_folder, clips):
    classifier = Classifier.load(clip_folder)
    classifier.video_processor.num_crops = 3
    found = embed_videos([clips / "red circle.mp4"], model=classifier, pooling="mean")
    assert found.embeds.shape == (1, 128)
    assert float(found.embeds.norm()) == pytest.approx(1, abs=1e-5)


def test_another_model_is_refused_and_the_same_one_under_another_name_is_not(
    embeddings, bike_folder, clip_folder, tmp_path
):
    with pytest.raises(ValueError, match="is another one"):
        search(embeddings, "red circle", model=bike_folder)
    shutil.copytree(clip_folder, tmp_path / "moved")
    assert search(embeddings, "red circle", model=tmp_path / "moved")


def test_a_method_that_weighs_frames_by_label_names_the_alternative(classifier, clips):
    with pytest.raises(ValueError, match=r"weighs the frames for each label.*--pooling mean"):
        embed_videos([clips], model=classifier)
    assert classifier.model.config.interaction == "saliency"


@pytest.mark.parametrize(
    ("queries", "options", "said"),
    [("red circle", {"top_k": 0}, "top_k must be"), ("", {}, "non-empty"), (["a", "a"], {}, "given twice")],
)
def test_wrong_queries_are_refused(classifier, embeddings, queries, options, said):
    with pytest.raises(ValueError, match=said):
        search(embeddings, queries, model=classifier, **options)


def test_other_files_are_refused(bike_folder, tmp_path):
    for name, content in (("empty", b""), ("text", b"something else, and long enough")):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    save_file({"embeds": torch.ones(1, 2)}, tmp_path / "old.safetensors", {"format": "kinoclip video embeddings 1"})
    files = [
        *(tmp_path / f"{name}.safetensors" for name in ("empty", "text", "old")),
        bike_folder / "model.safetensors",
    ]
    for file in files:
        with pytest.raises(ValueError, match="cannot be read as video embeddings"):
            VideoEmbeddings.load(file)
    with pytest.raises(ValueError, match=r"embeddings 1.*Embed the videos again"):
        VideoEmbeddings.load(tmp_path / "old.safetensors")
    with pytest.raises(FileNotFoundError, match="kinoclip embed"):
        VideoEmbeddings.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        VideoEmbeddings.load(tmp_path / "none.parquet")
