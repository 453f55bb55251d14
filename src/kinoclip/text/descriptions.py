"""Descriptions of actions: packaged sentences, files of them, and new ones from a text-generation model."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .labels import LABEL_SETS, match_key
from .parsing import load_json, naming_table
from .templates import check_template, fill_template

if TYPE_CHECKING:
    from transformers import Pipeline

# Source: SLLM sec. 3.3 asks "what does this action mean?"; the sentences around it are ours.
DESCRIPTION_PROMPT = (
    "The action is: {}. What does this action mean? Answer with one sentence of at most 25 words that says what a "
    "person sees in a video of it: motions, objects, place. Do not repeat the name of the action."
)
# The longest caption that SLLM's authors published.
MAX_WORDS = 36
_DESCRIPTIONS_KEY = "descriptions"
_CAPTION_HEADERS = ("cap", "concept")
_REASONING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")


def label_descriptions(name: str) -> dict[str, str]:
    """One sentence per class of a dataset, in class order, that says what a person sees in a video of it.

    Args:
        name: a packaged label set, one of `kinoclip.text.labels.LABEL_SETS`.

    Returns:
        Sentences by class name in the papers' spelling. Written for this package; they are not SLLM's captions.
    """
    if name not in LABEL_SETS:
        raise ValueError(
            f"There are no packaged descriptions of {name!r}. Use one of {', '.join(LABEL_SETS)}, read a file with "
            "`read_descriptions` or make them with `write_descriptions`."
        )
    file = resources.files("kinoclip.text").joinpath("data", f"{name}_descriptions.json")
    descriptions: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))[_DESCRIPTIONS_KEY]
    return descriptions


def read_descriptions(path: str | Path) -> dict[str, str]:
    """Read descriptions by label from a file.

    Formats, by ending: `.csv` as SLLM's authors published it, separated by semicolons, with the header `id;name;cap` or
    `id;name;concept`; anything else is JSON, `{"label": "sentence"}` or such an object under the key "descriptions", as
    `write_descriptions` and this package have it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an empty or repeated label or description, naming the place, or a file of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of descriptions.")
    # utf-8-sig: spreadsheets put a byte order mark in front of the header.
    text = path.read_text(encoding="utf-8-sig")
    with naming_table(path):
        descriptions = _parse_csv(path, text) if path.suffix.lower() == ".csv" else _parse_json(path, text)
    if not descriptions:
        raise ValueError(f"{path}: the file holds no description. Write one sentence per label.")
    return descriptions


def describe_labels(
    labels: Sequence[str], descriptions: Mapping[str, str], *, missing: Literal["error", "keep"] = "error"
) -> list[str]:
    """Texts that hold each label and its description, to be used as candidates with the template "{}".

    Args:
        labels: appear in the texts as they are given.
        descriptions: by label. "ApplyEyeMakeup", "apply_eye_makeup" and "Apply eye makeup" are the same label.
        missing: what to do with a label that has no description; "keep" gives the label alone.

    Raises:
        ValueError: naming the labels without a description, if `missing` is "error".

    Source: SLLM official code, `text_moda: enhance`, which joins by a comma without a space.

    >>> describe_labels(["hug"], {"Hug": "Two people hold each other tight."})
    ['hug,Two people hold each other tight.']
    """
    if missing not in ("error", "keep"):
        raise ValueError(f"missing is {missing!r}. Use 'error' or 'keep'.")
    by_key = _key_descriptions(descriptions)
    undescribed = [label for label in labels if match_key(label) not in by_key]
    if undescribed and missing == "error":
        raise ValueError(
            f"{len(undescribed)} of {len(labels)} labels have no description: {', '.join(map(repr, undescribed[:5]))}"
            f"{', ...' if len(undescribed) > 5 else ''}. Describe them or pass `missing='keep'`."
        )
    return [f"{label},{by_key[match_key(label)]}" if match_key(label) in by_key else label for label in labels]


def write_descriptions(
    labels: Sequence[str],
    ask: Callable[[str], str],
    path: str | Path,
    *,
    prompt: str = DESCRIPTION_PROMPT,
    max_words: int = MAX_WORDS,
) -> dict[str, str]:
    """Describe labels with a text-generation model, one question per label, and keep the answers in a file.

    The file is replaced after each answer. If it exists, what it holds is kept and only the other labels are asked
    for, so an interrupted run goes on where it stopped.

    Args:
        labels: spelled out, since the model reads them as they are.
        ask: takes a prompt and gives the model's answer; see `ask_endpoint` and `ask_pipeline`.
        path: JSON, read by `read_descriptions`.
        prompt: with one {} for the label.
        max_words: an answer is cut to the sentences, or else the words, that fit.

    Returns:
        Descriptions of `labels`, in their order.

    Raises:
        RuntimeError: naming the label, if `ask` fails or gives no words. Earlier answers are in the file.
        ValueError: if the file exists with answers to another prompt or is of another format.
        FileNotFoundError: if there is no folder for the file.

    Source: SLLM sec. 3.3, eq. 11.
    """
    path = Path(path)
    _check_request(path, prompt, max_words)
    descriptions = _read_answers(path, prompt) if path.exists() else {}
    for label in labels:
        if match_key(label) in map(match_key, descriptions):
            continue
        try:
            descriptions[label] = _clean_answer(ask(fill_template(prompt, label)), max_words)
        except Exception as error:  # of whatever kind: only here is it known which label was asked for
            raise RuntimeError(
                f"The model gave no description of {label!r}: {type(error).__name__}: {error}. "
                f"{len(descriptions)} answers before it are kept in {path}. Run it again to go on from there."
            ) from error
        _replace_file(path, {"prompt": prompt, _DESCRIPTIONS_KEY: descriptions})
    by_key = _key_descriptions(descriptions)
    return {label: by_key[match_key(label)] for label in labels}


def ask_endpoint(
    model_or_url: str,
    token: str | None = None,
    *,
    model: str | None = None,
    max_new_tokens: int = 256,
    timeout_seconds: float = 120.0,
) -> Callable[[str], str]:
    """Ask a chat model behind an HTTP endpoint, greedily.

    Args:
        model_or_url: a model on the Hugging Face Hub, or the base address of any server that speaks OpenAI's chat
            completions ("http://127.0.0.1:8000/v1").
        token: access token or key. None is the saved Hugging Face token for a model on the Hub; an address gets none.
        model: which of a server's models to ask, only with an address.
        max_new_tokens: where an answer is cut; a model that thinks aloud needs more.
        timeout_seconds: how long to wait for one answer.

    Source: temperature 0 as in SLLM sec. 4.2.
    """
    from huggingface_hub import InferenceClient  # slow to import, and most programs ask nothing

    is_address = model_or_url.startswith(("http://", "https://"))
    if model is not None and not is_address:
        raise ValueError(f"Got the model {model!r} besides {model_or_url!r}, which is no address. Give one of them.")
    if is_address:
        # A placeholder, since without a token the client would send the saved Hugging Face token to a foreign server.
        client = InferenceClient(base_url=model_or_url, token=token or "none", timeout=timeout_seconds)
    else:
        client = InferenceClient(model_or_url, token=token, timeout=timeout_seconds)

    def ask(prompt: str) -> str:
        completion = client.chat_completion(
            [{"role": "user", "content": prompt}], model=model, temperature=0.0, max_tokens=max_new_tokens
        )
        return completion.choices[0].message.content or ""

    return ask


def ask_pipeline(generator: "str | Pipeline", *, max_new_tokens: int = 256) -> Callable[[str], str]:
    """Ask a text-generation model on this machine, greedily.

    Args:
        generator: a transformers "text-generation" pipeline, or the name or folder of a model for one. A tokenizer with
            a chat template gets the prompt as a user's message.
        max_new_tokens: where an answer is cut.
    """
    from transformers import pipeline  # slow to import, and most programs ask nothing

    generate: Any = pipeline("text-generation", model=generator) if isinstance(generator, str) else generator

    def ask(prompt: str) -> str:
        is_chat = getattr(generate.tokenizer, "chat_template", None) is not None
        message = [{"role": "user", "content": prompt}] if is_chat else prompt
        outputs = generate(message, do_sample=False, max_new_tokens=max_new_tokens, return_full_text=False)
        return str(outputs[0]["generated_text"])

    return ask


def _key_descriptions(descriptions: Mapping[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for label, description in descriptions.items():
        first = labels.setdefault(match_key(label), label)
        if description != descriptions[first]:
            raise ValueError(f"{first!r} and {label!r} name one label but have two descriptions. Keep one of them.")
    return {key: descriptions[label] for key, label in labels.items()}


def _check_request(path: Path, prompt: str, max_words: int) -> None:
    check_template(prompt)
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}. Allow at least 1.")
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path}: descriptions are written as JSON. End the name with .json.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder. Make it first.")


def _clean_answer(answer: str, max_words: int) -> str:
    text = " ".join(_REASONING.sub(" ", answer).replace("**", "").split()).strip("\"'` \u201c\u201d")
    if not text:
        raise ValueError(f"the answer {answer!r} holds no words")
    kept: list[str] = []
    for sentence in _SENTENCE_ENDS.split(text):
        if len(kept) + len(sentence.split()) > max_words:
            break
        kept += sentence.split()
    return " ".join(kept or text.split()[:max_words])


def _read_answers(path: Path, prompt: str) -> dict[str, str]:
    descriptions = read_descriptions(path)
    earlier = json.loads(path.read_text(encoding="utf-8-sig")).get("prompt")
    if earlier != prompt:
        raise ValueError(f"{path}: its answers are to the prompt {earlier!r}, not {prompt!r}. Write to another file.")
    return descriptions


def _replace_file(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _parse_json(path: Path, text: str) -> dict[str, str]:
    def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for label, description in pairs:
            if label in content:
                raise ValueError(f"{path}: {label!r} is given twice. Keep one of them.")
            content[label] = description
        return content

    try:
        content = load_json(text, object_pairs_hook=refuse_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    if isinstance(content, dict) and isinstance(content.get(_DESCRIPTIONS_KEY), dict):
        content = content[_DESCRIPTIONS_KEY]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}. Give an object from label to description.")
    for label, description in content.items():
        if not label.strip() or not isinstance(description, str) or not description.strip():
            raise ValueError(f"{path}: {label!r} is described by {description!r}. Give a label and a sentence.")
    return {label.strip(): description.strip() for label, description in content.items()}


def _parse_csv(path: Path, text: str) -> dict[str, str]:
    reader = csv.reader(text.splitlines(), delimiter=";")
    header = [column.strip() for column in next(reader, [])]
    if header[:2] != ["id", "name"] or header[2:] not in [[caption] for caption in _CAPTION_HEADERS]:
        raise ValueError(f"{path}, line 1: the header is {header}. Begin the file with 'id;name;cap'.")
    descriptions: dict[str, str] = {}
    for row in reader:
        if not row:
            continue
        place = f"{path}, line {reader.line_num}"
        if len(row) != 3:
            raise ValueError(f"{place}: {len(row)} fields instead of 3. Quote a field that holds a semicolon.")
        name, description = row[1].strip(), row[2].strip()
        if not name or not description:
            raise ValueError(f"{place}: the name is {name!r} and the description {description!r}. Fill in both.")
        if name in descriptions:
            raise ValueError(f"{place}: {name!r} was already described. Keep one of the lines.")
        descriptions[name] = description
    return descriptions
