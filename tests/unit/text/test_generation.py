import json

import pytest
from huggingface_hub import constants
from local_server import send, serve
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, pipeline, set_seed

from kinoclip.text.generation import ask_endpoint, ask_model, ask_pipeline

DIVING = "A person leaps into water."
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@pytest.fixture
def chat_server(monkeypatch):
    """A local server of chat completions: its address, and the requests it received."""

    def answer(handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.server.requests.append((handler.path, handler.headers["Authorization"], body))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": DIVING}}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        content = json.dumps({**reply, "system_fingerprint": "", "usage": USAGE}).encode()
        send(handler, content, len(content))

    # conftest.py keeps the suite off the network; this server is on this machine
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(answer) as server:
        server.requests, server.address = [], f"http://127.0.0.1:{server.server_port}/v1"
        yield server


@pytest.fixture(scope="module")
def tiny_generator():
    """A text-generation pipeline with random weights over a handful of words."""
    words = ["<end>", "a", "person", "leaps", "throws", "runs", "into", "water"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    set_seed(0)
    config = GPT2Config(vocab_size=8, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=0)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    return pipeline("text-generation", model=GPT2LMHeadModel(config), tokenizer=fast, device="cpu")


def test_an_endpoint_is_asked_greedily_in_the_format_of_chat_completions(chat_server):
    answer = ask_endpoint(chat_server.address, "secret", model="writer", max_new_tokens=64)("What is diving?")
    assert answer == DIVING
    assert chat_server.requests == [
        (
            "/v1/chat/completions",
            "Bearer secret",
            {
                "model": "writer",
                "messages": [{"role": "user", "content": "What is diving?"}],
                "temperature": 0.0,
                "max_tokens": 64,
                "stream": False,
            },
        )
    ]


def test_the_saved_hugging_face_token_is_not_sent_to_another_server(chat_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_saved")
    ask_endpoint(chat_server.address)("What is diving?")
    assert chat_server.requests[0][1] == "Bearer none"


def test_a_second_model_needs_an_address():
    with pytest.raises(ValueError, match="'organization/model' is not an address"):
        ask_endpoint("organization/model", model="writer")


def test_a_folder_is_asked_here_and_an_address_is_asked_there(chat_server, tiny_generator, tmp_path):
    assert ask_model(chat_server.address, "secret")("What is diving?") == DIVING
    tiny_generator.save_pretrained(tmp_path)
    assert ask_model(str(tmp_path), max_new_tokens=5)("a person") == ask_pipeline(tiny_generator, max_new_tokens=5)(
        "a person"
    )
    assert len(chat_server.requests) == 1


def test_a_pipeline_answers_greedily_and_a_chat_template_gets_the_prompt_as_a_message(tiny_generator, monkeypatch):
    ask = ask_pipeline(tiny_generator, max_new_tokens=5)
    answer = ask("a person throws water")
    assert answer == ask("a person throws water")
    assert 1 <= len(answer.split()) <= 5
    template = "{% for message in messages %}{{ message['content'] }} throws water{% endfor %}"
    monkeypatch.setattr(tiny_generator.tokenizer, "chat_template", template)
    assert ask("a person") == answer
