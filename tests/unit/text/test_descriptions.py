import gzip
import importlib.util
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, pipeline, set_seed
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kinoclip.text.descriptions import (
    DESCRIPTION_PROMPT,
    ask_endpoint,
    ask_pipeline,
    describe_labels,
    label_descriptions,
    read_descriptions,
    write_descriptions,
)
from kinoclip.text.labels import LABEL_SETS, label_set
from kinoclip.text.tokens import CONTEXT_LENGTH, tokenize_texts

DIVING = "A person leaps into water."
ARCHERY = "A person draws a bow."


@pytest.fixture(scope="module")
def clip_tokenizer() -> CLIPTokenizer:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip_torch is not installed; its file bpe_simple_vocab_16e6.txt.gz makes CLIP's tokenizer")
    merges_file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    # 49152 entries less 2 * 256 letters and 2 specials are merges; the first line is a version.
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    entries = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={entry: index for index, entry in enumerate(entries)}, merges=merges, model_max_length=CONTEXT_LENGTH
    )


@pytest.fixture
def chat_server(monkeypatch):
    """A server of chat completions on this machine: its address, the requests it got, and the replies it will give."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append((self.path, self.headers["Authorization"], body))
            status, answer = self.server.replies.pop(0)
            message = {"role": "assistant", "content": answer}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            content = json.dumps(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "system_fingerprint": "",
                    "choices": [choice],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
            ).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    # conftest.py keeps the suite off the network; this server is on this machine
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.replies = [], []
    server.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


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


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_class_of_a_packaged_label_set_is_described_in_class_order(name):
    assert list(label_descriptions(name)) == label_set(name)


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_packaged_description_has_8_to_22_words(name):
    lengths = {label: len(description.split()) for label, description in label_descriptions(name).items()}

    assert {label: length for label, length in lengths.items() if not 8 <= length <= 22} == {}


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_packaged_description_is_one_plain_sentence(name):
    descriptions = label_descriptions(name)

    # a capital at the start, one full stop, at the end, and letters that need no repair
    odd = [
        description
        for description in descriptions.values()
        if not (description[0].isupper() and description.find(".") == len(description) - 1 and description.isascii())
    ]
    assert odd == []


@pytest.mark.parametrize("name", LABEL_SETS)
def test_no_two_classes_of_a_label_set_share_a_description(name):
    counts = Counter(description.casefold() for description in label_descriptions(name).values())

    assert counts.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_packaged_description_with_its_label_fits_the_context_of_clip(clip_tokenizer, name):
    labels = label_set(name)
    texts = describe_labels(labels, label_descriptions(name))

    _, attention_mask = tokenize_texts(clip_tokenizer, texts, labels=labels)

    # room is left for a template of some words
    assert attention_mask.sum(dim=1).max().item() <= 50


def test_an_unknown_label_set_has_no_packaged_descriptions():
    with pytest.raises(ValueError, match=r"descriptions of 'imagenet'.*kinetics400.*`write_descriptions`"):
        label_descriptions("imagenet")


def test_a_label_and_its_description_are_joined_by_a_comma_without_a_space():
    assert describe_labels(["diving"], {"diving": DIVING}) == ["diving,A person leaps into water."]


@pytest.mark.parametrize("described", ["ApplyEyeMakeup", "apply eye makeup", "apply_eye_makeup", "Apply Eye Makeup"])
@pytest.mark.parametrize("asked", ["ApplyEyeMakeup", "apply eye makeup", "APPLY EYE MAKEUP"])
def test_a_description_is_found_under_every_spelling_of_its_label(asked, described):
    assert describe_labels([asked], {described: "Powder."}) == [f"{asked},Powder."]


@pytest.mark.parametrize("name", LABEL_SETS)
def test_the_spelled_out_labels_of_a_set_find_the_same_descriptions(name):
    descriptions = label_descriptions(name)

    labels = label_set(name, "words")

    texts = describe_labels(labels, descriptions)

    assert [text[len(label) + 1 :] for label, text in zip(labels, texts, strict=True)] == list(descriptions.values())


def test_descriptions_follow_the_order_of_the_labels_not_of_the_file():
    texts = describe_labels(["archery", "diving"], {"diving": DIVING, "archery": ARCHERY})

    assert texts == [f"archery,{ARCHERY}", f"diving,{DIVING}"]


def test_a_label_without_a_description_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"1 of 2 labels have no description: 'archery'\. Describe them"):
        describe_labels(["diving", "archery"], {"diving": DIVING})


def test_a_label_without_a_description_may_be_kept_alone():
    assert describe_labels(["archery", "diving"], {"diving": DIVING}, missing="keep") == [
        "archery",
        f"diving,{DIVING}",
    ]


def test_an_unknown_way_to_treat_missing_labels_is_an_error():
    with pytest.raises(ValueError, match="missing is 'skip'"):
        describe_labels(["diving"], {"diving": DIVING}, missing="skip")


def test_two_descriptions_of_one_label_in_two_spellings_are_an_error():
    with pytest.raises(ValueError, match="'YoYo' and 'yo yo' name one label but have two descriptions"):
        describe_labels(["YoYo"], {"YoYo": "A spool.", "yo yo": "A string."})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"diving": DIVING, "archery": ARCHERY}),
        ("a.JSON", {"title": "Two", "version": "1", "descriptions": {"diving": DIVING, "archery": ARCHERY}}),
        ("a.csv", f"id;name;cap\n0;diving;{DIVING}\n1;archery;{ARCHERY}\n"),
        ("a.csv", f"\ufeffid;name;concept\r\n0;diving; {DIVING}\r\n\r\n1;archery;{ARCHERY}\r\n"),
        ("a.csv", f'id;name;cap\n0;"diving";"{DIVING}"\n1;archery;{ARCHERY}'),
    ],
)
def test_descriptions_are_read_from_every_format(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())

    assert read_descriptions(path) == {"diving": DIVING, "archery": ARCHERY}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{\n'diving'", "line 2: not valid JSON"),
        ("a.json", "[]", "holds a list"),
        ("a.json", "{}", "holds no description"),
        ("a.json", '{"diving": 3}', "'diving' is described by 3"),
        ("a.json", '{"diving": " "}', "'diving' is described by ' '"),
        ("a.json", '{"diving": "A.", "diving": "B."}', "'diving' is given twice"),
        ("a.csv", "", "line 1: the header is"),
        ("a.csv", "id,name,cap\n", r"line 1: the header is \['id,name,cap'\]"),
        ("a.csv", "id;name\n0;diving\n", "line 1: the header is"),
        ("a.csv", "id;name;cap\n", "holds no description"),
        ("a.csv", "id;name;cap\n0;diving\n", "line 2: 2 fields instead of 3"),
        ("a.csv", "id;name;cap\n0;diving;A jump; a splash.\n", "line 2: 4 fields instead of 3. Quote"),
        ("a.csv", "id;name;cap\n0;diving;A.\n1;;B.\n", "line 3: the name is ''"),
        ("a.csv", "id;name;cap\n0;diving;A.\n1;diving;B.\n", "line 3: 'diving' was already described"),
    ],
)
def test_a_bad_file_of_descriptions_is_an_error_that_says_where(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        read_descriptions(path)


def test_a_missing_file_of_descriptions_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file of descriptions"):
        read_descriptions(tmp_path / "none.json")


def test_a_model_is_asked_once_per_label_what_the_action_means(tmp_path):
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        return DIVING

    write_descriptions(["diving", "archery"], ask, tmp_path / "a.json")

    assert prompts == [DESCRIPTION_PROMPT.replace("{}", "diving"), DESCRIPTION_PROMPT.replace("{}", "archery")]
    assert "What does this action mean?" in prompts[0]


def test_written_descriptions_are_read_back(tmp_path):
    written = write_descriptions(["diving"], lambda _: DIVING, tmp_path / "a.json")

    assert written == read_descriptions(tmp_path / "a.json") == {"diving": DIVING}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("  A person\n leaps\tin. \n", "A person leaps in."),
        ('"A person leaps in."', "A person leaps in."),
        ("**A person** leaps in.", "A person leaps in."),
        ("<think>Water?\nYes.</think>A person leaps in.", "A person leaps in."),
        ("One two three four. Five six.", "One two three four."),
        ("One two. Three four. Five six.", "One two. Three four."),
        ("one two three four five six seven", "one two three four five"),
    ],
)
def test_an_answer_becomes_one_line_of_at_most_max_words(tmp_path, answer, expected):
    written = write_descriptions(["diving"], lambda _: answer, tmp_path / "a.json", max_words=5)

    assert written == {"diving": expected}


@pytest.mark.parametrize("answer", ["", ' "" \n', "<think>Water?", "<think>Water?</think>"])
def test_an_answer_without_words_is_an_error_that_names_the_label(tmp_path, answer):
    with pytest.raises(RuntimeError, match=r"no description of 'diving': .* holds no words"):
        write_descriptions(["diving"], lambda _: answer, tmp_path / "a.json")


def test_an_interrupted_run_keeps_its_answers_and_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "a.json"

    def fail_at_archery(prompt):
        if "archery" in prompt:
            raise ConnectionError("gone")
        return DIVING

    with pytest.raises(RuntimeError, match=r"'archery': ConnectionError: gone\. 1 answers before it are kept in"):
        write_descriptions(["diving", "archery"], fail_at_archery, path)
    assert read_descriptions(path) == {"diving": DIVING}

    asked = []
    written = write_descriptions(["archery", "Diving"], lambda prompt: asked.append(prompt) or ARCHERY, path)

    assert asked == [DESCRIPTION_PROMPT.replace("{}", "archery")]
    assert written == {"archery": ARCHERY, "Diving": DIVING}


def test_a_stop_by_the_user_keeps_the_answers_and_leaves_no_other_file(tmp_path):
    def stop_at_archery(prompt):
        if "archery" in prompt:
            raise KeyboardInterrupt
        return DIVING

    with pytest.raises(KeyboardInterrupt):
        write_descriptions(["diving", "archery"], stop_at_archery, tmp_path / "a.json")

    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_descriptions(tmp_path / "a.json") == {"diving": DIVING}


def test_answers_to_two_prompts_are_not_mixed_in_one_file(tmp_path):
    write_descriptions(["diving"], lambda _: DIVING, tmp_path / "a.json", prompt="Explain {}.")

    with pytest.raises(ValueError, match=r"its answers are to the prompt 'Explain {}\.'"):
        write_descriptions(["archery"], lambda _: ARCHERY, tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("a.json", {"prompt": "Explain."}, ValueError, "holds 0 times"),
        ("a.json", {"max_words": 0}, ValueError, "max_words is 0"),
        ("a.csv", {}, ValueError, "written as JSON"),
        ("none/a.json", {}, FileNotFoundError, "there is no such folder"),
    ],
)
def test_a_request_that_cannot_succeed_asks_nothing(tmp_path, name, options, error, message):
    asked = []

    with pytest.raises(error, match=message):
        write_descriptions(["diving"], lambda prompt: asked.append(prompt) or DIVING, tmp_path / name, **options)

    assert asked == []


def test_an_endpoint_is_asked_greedily_in_the_format_of_chat_completions(chat_server):
    chat_server.replies = [(200, DIVING)]

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
    chat_server.replies = [(200, DIVING)]

    ask_endpoint(chat_server.address)("What is diving?")

    assert chat_server.requests[0][1] == "Bearer none"


def test_labels_are_described_through_an_endpoint(chat_server, tmp_path):
    chat_server.replies = [(200, DIVING), (200, ARCHERY)]

    written = write_descriptions(["diving", "archery"], ask_endpoint(chat_server.address), tmp_path / "a.json")

    assert written == {"diving": DIVING, "archery": ARCHERY}


def test_an_endpoint_that_fails_is_an_error_that_names_the_label(chat_server, tmp_path):
    chat_server.replies = [(200, DIVING), (503, "")]

    with pytest.raises(RuntimeError, match=r"no description of 'archery': .*503"):
        write_descriptions(["diving", "archery"], ask_endpoint(chat_server.address), tmp_path / "a.json")

    assert read_descriptions(tmp_path / "a.json") == {"diving": DIVING}


def test_an_endpoint_that_is_not_there_is_an_error_that_names_the_label(chat_server, tmp_path):
    ask = ask_endpoint(chat_server.address)
    chat_server.shutdown()
    chat_server.server_close()

    with pytest.raises(RuntimeError, match=r"no description of 'diving': ConnectError"):
        write_descriptions(["diving"], ask, tmp_path / "a.json")


def test_a_second_model_needs_an_address():
    with pytest.raises(ValueError, match="besides 'organization/model', which is no address"):
        ask_endpoint("organization/model", model="writer")


def test_a_pipeline_answers_twice_the_same_without_the_prompt(tiny_generator):
    ask = ask_pipeline(tiny_generator, max_new_tokens=5)

    answer = ask("a person leaps into")

    assert answer == ask("a person leaps into")
    assert 1 <= len(answer.split()) <= 5


def test_a_tokenizer_with_a_chat_template_gets_the_prompt_as_a_message(tiny_generator, monkeypatch):
    template = "{% for message in messages %}{{ message['content'] }} throws water{% endfor %}"
    plain = ask_pipeline(tiny_generator, max_new_tokens=5)("a person throws water")
    monkeypatch.setattr(tiny_generator.tokenizer, "chat_template", template)

    assert ask_pipeline(tiny_generator, max_new_tokens=5)("a person") == plain
