"""The mini Chinese-CLIP."""

from transformers import BertTokenizer, ChineseCLIPModel

from kinoclip import DstprModel, DstprProcessor
from kinoclip.kinoshapes.benchmark import action_classes
from kinoclip.kinoshapes.figures.benchmark import figure_chinese
from kinoclip.methods.auto import mini_clip_path
from kinoclip.training.chinese_clip import train_chinese, translations


def test_every_class_of_the_benchmarks_is_translated():
    pairs = dict(translations())
    assert set(figure_chinese().items()) <= set(translations())
    assert all(pairs[known.label] == known.chinese for task in ("actions", "unseen") for known in action_classes(task))


def test_a_few_steps_bring_chinese_nearer_to_english_and_leave_a_folder_that_loads(tmp_path):
    before = train_chinese(tmp_path / "zero", steps=1)
    after = train_chinese(tmp_path / "some", steps=12)
    assert after > before
    assert ChineseCLIPModel.from_pretrained(tmp_path / "some").config.projection_dim == 128
    assert BertTokenizer.from_pretrained(tmp_path / "some")("红色圆形")["input_ids"].count(1) == 0  # no unknown letter
    model = DstprModel.from_clip(mini_clip_path(), num_frames=2, reparam="mlp").load_chinese(tmp_path / "some")
    processor = DstprProcessor.from_clip(mini_clip_path(), model.config)
    processor.set_chinese(tmp_path / "some", {"red circle": "红色圆形"})
    assert model.encode_text(**processor(text=["red circle"])).branches["chinese"].shape == (1, 1, 128)
