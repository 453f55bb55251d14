"""The classes that `run.py` runs: the common suites of transformers, found as the package `tests`, over tiny models of every method."""

import copy
import os
import unittest

import torch
from conftest import TOWERS
from contract.conftest import RECOGNIZERS, _give_corpus
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin
from tests.test_processing_common import ProcessorTesterMixin
from tests.test_video_processing_common import VideoProcessingTestMixin, prepare_video_inputs
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from kinoclip import RecognizerVideoProcessor
from kinoclip.methods import METHODS
from kinoclip.methods.auto import mini_clip_path

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
# new memory is NaN, so that a weight that is never initialized is found
torch.use_deterministic_algorithms(True, warn_only=True)
torch.utils.deterministic.fill_uninitialized_memory = True

TOKENIZER = CLIPTokenizer.from_pretrained(mini_clip_path())
# one configuration of each method for the whole suite; for the initialization all of the contract's are run
WHOLE = {
    "actionclip": "actionclip",
    "alt": "alt_learned",  # without a corpus, which no config holds
    "bike": "bike",
    "dstpr": "dstpr_learned_context",
    "sllm": "sllm_text4vis",
    "tam": "tam",
    "text4vis": "text4vis",
    "xclip": "xclip",
}
INITIALIZATION = (
    *("test_can_init_all_missing_weights", "test_init_weights_can_init_buffers"),
    "test_no_weight_stays_uninitialized",
)
# what the suite of CLIP leaves out too, because its towers have tests of their own
NOT_FOR_CLIP = (
    *("test_hidden_states_output", "test_attention_outputs", "test_retain_grad_hidden_states_attentions"),
    *("test_inputs_embeds", "test_inputs_embeds_matches_input_ids", "test_model_get_set_embeddings"),
    *("test_resize_embeddings_untied", "test_resize_tokens_embeddings", "test_resize_position_vector_embeddings"),
)
TEXT = {
    "vocab_size": len(TOKENIZER),
    "bos_token_id": TOKENIZER.bos_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
    "pad_token_id": 0,
}
FIELDS = {**TOWERS, "text_config": {**TOWERS["text_config"], **TEXT}, "num_frames": 4, "temporal_layers": 2}


class Tower:
    """What the suites ask about a tower of CLIP."""

    batch_size, seq_length, num_hidden_layers, hidden_size, num_attention_heads = 3, 77, 2, 64, 1
    image_size, patch_size, is_training = 32, 16, True

    def __init__(self, name):
        self.name = name

    def prepare_config_and_inputs_for_common(self):
        if self.name == "pixel_values":
            return None, {"pixel_values": torch.randn(3, 3, 32, 32)}
        texts = TOKENIZER(["red circle", "blue square", "green star"], padding="max_length", max_length=77)
        return None, {"input_ids": torch.tensor(texts["input_ids"])}


class Tester:
    """What the suites ask about one model: a config and inputs of two videos and three candidates."""

    batch_size, seq_length, is_training, num_hidden_layers, hidden_size = 2, 77, True, 2, 64
    num_attention_heads = 1

    def __init__(self, kind):
        self.kind = kind
        if kind is None or RECOGNIZERS[kind].reads_text:
            self.text_model_tester, self.vision_model_tester = Tower("input_ids"), Tower("pixel_values")

    def get_config(self):
        if self.kind is None:
            return CLIPConfig(**{name: FIELDS[name] for name in ("text_config", "vision_config", "projection_dim")})
        return RECOGNIZERS[self.kind].config(copy.deepcopy(FIELDS))

    def prepare_config_and_inputs_for_common(self):
        generator = torch.Generator().manual_seed(0)
        frames = () if self.kind is None else (8 if RECOGNIZERS[self.kind].method == "xclip" else 4,)
        pixels = torch.randn(2, *frames, 3, 32, 32, generator=generator)
        texts = ["red circle", "blue square", "green star"]
        ids = TOKENIZER(texts, padding="max_length", max_length=77, return_tensors="pt")
        if self.kind is None:
            return self.get_config(), {"pixel_values": pixels, **ids}
        inputs = {"pixel_values_videos": pixels}
        if RECOGNIZERS[self.kind].reads_text:
            inputs["input_ids"] = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, 0)[None]
        if RECOGNIZERS[self.kind].fields.get("chinese_branch"):
            inputs["chinese_input_ids"] = torch.tensor([[[1, 7, 2, 0], [1, 8, 9, 2], [1, 5, 2, 0]]])
        return self.get_config(), inputs


class ModelSuite(ModelTesterMixin):
    kind = None
    _is_composite = True
    test_resize_embeddings = False
    skip_test_video_features_output_shape = True  # frames are returned in the shared space
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self):
        self.model_tester = Tester(self.kind)

    def test_no_weight_stays_uninitialized(self):
        """Not of transformers: the suite compares random numbers, and cannot where a method draws them in another order."""
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            state = model_class.from_pretrained(None, config=config, state_dict={}).state_dict()
            assert not [name for name, tensor in state.items() if tensor.isnan().any()]

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if self.kind is None:
            return inputs | ({"return_loss": True} if return_labels else {})
        return inputs | ({"labels": torch.tensor([1, 0])} if return_labels else {})


class ConfigSuite:
    kind = None

    def test_config(self):
        self.model_tester = Tester(self.kind)
        base = CLIPConfig if self.kind is None else METHODS[RECOGNIZERS[self.kind].method].config

        class Config(base):
            def to_dict(self):  # the suite reads every sub-config; folders leave a newer one out unless it is set
                return {**dict.fromkeys(self.sub_configs), **super().to_dict()}

        ConfigTester(self, config_class=Config, has_text_modality=False, common_properties=[]).run_common_tests()


class ExportSuite:
    """Export with the exporters of transformers; their own tests are not in the source distribution."""

    kind = None

    def _export(self, exporter, config):
        settings, inputs = Tester(self.kind).prepare_config_and_inputs_for_common()
        model = (CLIPModel if self.kind is None else METHODS[RECOGNIZERS[self.kind].method].model)(settings).eval()
        _give_corpus(model) if self.kind else None
        with torch.no_grad():
            expected = model(**inputs)
        return expected[0 if self.kind is None else "logits"], exporter.export(model, inputs, config=config), inputs

    def test_dynamo(self):
        from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter

        expected, exported, inputs = self._export(DynamoExporter(), DynamoConfig())
        found = _program(exported).module()(**inputs)
        torch.testing.assert_close(found[0 if self.kind is None else "logits"], expected, atol=1e-4, rtol=1e-4)

    def test_onnx(self):
        from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

        self._export(OnnxExporter(), OnnxConfig())


def _program(exported):
    return getattr(exported, "program", exported)


class VideoTester:
    batch_size, num_frames, num_channels = 5, 8, 3

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        shape = {"batch_size": self.batch_size, "num_frames": self.num_frames, "num_channels": self.num_channels}
        bounds = {"min_resolution": 30, "max_resolution": 80, "equal_resolution": equal_resolution}
        return prepare_video_inputs(**shape, **bounds, return_tensors=return_tensors)

    def expected_output_video_shape(self, videos):
        return [self.num_frames, 3, 18, 18]


class VideoProcessor_recognizer(VideoProcessingTestMixin, unittest.TestCase):  # noqa: N801
    fast_video_processing_class = RecognizerVideoProcessor
    test_cast_dtype = True
    video_processor_dict = {
        "size": {"shortest_edge": 20},
        "crop_size": {"height": 18, "width": 18},
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }

    def setUp(self):
        super().setUp()
        self.video_processor_tester = VideoTester()


class ProcessorSuite(ProcessorTesterMixin):
    kind = None

    @classmethod
    def _setup_tokenizer(cls):
        return CLIPTokenizer.from_pretrained(mini_clip_path())

    @classmethod
    def _setup_video_processor(cls):
        return RecognizerVideoProcessor(size={"shortest_edge": 20}, crop_size={"height": 18, "width": 18})


def _add(base, name, kind, **members):
    globals()[name] = type(name, (base, unittest.TestCase), {"kind": kind, "__module__": __name__, **members})


SKIPPED = dict.fromkeys(NOT_FOR_CLIP)
_add(
    ModelSuite,
    "ModelControl",
    None,
    all_model_classes=(CLIPModel,),
    additional_model_inputs=["pixel_values"],
    **SKIPPED,
)
_add(ConfigSuite, "ConfigControl", None)
_add(ExportSuite, "ExportControl", None)
for method, kind in WHOLE.items():
    model = METHODS[method].model
    _add(
        ModelSuite,
        f"Model_{method}",
        kind,
        all_model_classes=(model,),
        additional_model_inputs=["input_ids"] if RECOGNIZERS[kind].reads_text else [],
        has_attentions=RECOGNIZERS[kind].reads_text,
        **SKIPPED,
    )
    _add(ConfigSuite, f"Config_{method}", kind)
    _add(ExportSuite, f"Export_{method}", kind)
    if RECOGNIZERS[kind].reads_text:
        _add(ProcessorSuite, f"Processor_{method}", kind, processor_class=METHODS[method].processor)
for kind in sorted(set(RECOGNIZERS) - set(WHOLE.values())):
    only = {
        name: None
        for name in dir(ModelSuite)
        if name.startswith("test_") and callable(getattr(ModelSuite, name)) and name not in INITIALIZATION
    }
    _add(ModelSuite, f"Init_{kind}", kind, all_model_classes=(METHODS[RECOGNIZERS[kind].method].model,), **only)
del ModelSuite, ConfigSuite, ExportSuite, ProcessorSuite
