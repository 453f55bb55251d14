"""Ask text-generation models, and keep their answers in a file that an interrupted run continues."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.storage import claimed, write_json
from kinoclip.text.labels import match_key

if TYPE_CHECKING:
    from transformers import Pipeline

Progress = Callable[[int], Callable[[int], None]]
# what a model writes before its answer
REASONING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


def answer_all(
    labels: Iterable[str],
    answers: dict[str, Any],
    answer: Callable[[str], Any],
    path: Path,
    content: dict[str, Any],
    progress: Progress = lambda total: lambda count: None,
) -> None:
    """Add the answer for each label that has none in any spelling, and write the file after each of them.

    The caller has read the answers of an existing file, whose form it checked. `content` is what is written; it contains
    `answers`. If `answer` fails, a `RuntimeError` names the label, and earlier answers are in the file. `progress` is called
    with the number of labels to ask for; it returns a callback, called with the number of answers.
    """
    missing = {match_key(label): label for label in labels}
    for known in answers:
        missing.pop(match_key(known), None)
    on_answers = progress(len(missing))
    for label in missing.values():
        try:
            answers[label] = answer(label)
        except Exception as error:  # any kind: only here it is known which label was asked for
            raise RuntimeError(
                f"The model did not answer for {label!r}: {type(error).__name__}: {error}. "
                f"{len(answers)} answers before it are kept in {path}. Run it again to continue."
            ) from error
        write_json(path, content, owns=claimed)
        on_answers(1)


def ask_endpoint(
    model_or_url: str,
    token: str | None = None,
    *,
    model: str | None = None,
    max_new_tokens: int = 256,
    timeout_seconds: float = 120.0,
) -> Callable[[str], str]:
    """Return a function that asks a chat model behind an HTTP endpoint, greedily.

    Args:
        model_or_url: a model on the Hugging Face Hub, or the base address of any server that implements OpenAI's chat
            completions ("http://127.0.0.1:8000/v1").
        token: access token or key. By default the saved Hugging Face token for a model on the Hub; none for an address.
        model: which of a server's models to ask, only with an address.
        max_new_tokens: maximum length of an answer; a model that writes out its reasoning needs more.
        timeout_seconds: for one answer.

    Source: temperature 0 as in SLLM sec. 4.2.
    """
    from huggingface_hub import InferenceClient  # slow to import

    is_address = model_or_url.startswith(("http://", "https://"))
    if model is not None and not is_address:
        raise ValueError(f"model={model!r} needs the address of a server; {model_or_url!r} is not an address.")
    if is_address:
        # A placeholder, since without a token the client would send the saved Hugging Face token to another server.
        client = InferenceClient(base_url=model_or_url, token=token or "none", timeout=timeout_seconds)
    else:
        client = InferenceClient(model_or_url, token=token, timeout=timeout_seconds)

    def ask(prompt: str) -> str:
        completion = client.chat_completion(
            [{"role": "user", "content": prompt}], model=model, temperature=0.0, max_tokens=max_new_tokens
        )
        return completion.choices[0].message.content or ""

    return ask


def ask_model(source: str, token: str | None = None, **options: Any) -> Callable[[str], str]:
    """Return a function that asks a text-generation model, greedily.

    Args:
        source: a local folder of a model (`ask_pipeline`), or the name of a model on the Hub or the address of a server
            (`ask_endpoint`).
        token: for an endpoint.
        options: of both, `max_new_tokens`.
    """
    return ask_pipeline(source, **options) if Path(source).is_dir() else ask_endpoint(source, token, **options)


def ask_pipeline(generator: "str | Pipeline", *, max_new_tokens: int = 256) -> Callable[[str], str]:
    """Return a function that asks a local text-generation model, greedily.

    Args:
        generator: a transformers "text-generation" pipeline, or the name or folder of a model for one. A tokenizer with
            a chat template gets the prompt as a user's message.
        max_new_tokens: maximum length of an answer.
    """
    from transformers import pipeline  # slow to import

    generate: Any = pipeline("text-generation", model=generator) if isinstance(generator, str) else generator

    def ask(prompt: str) -> str:
        is_chat = getattr(generate.tokenizer, "chat_template", None) is not None
        message = [{"role": "user", "content": prompt}] if is_chat else prompt
        outputs = generate(message, do_sample=False, max_new_tokens=max_new_tokens, return_full_text=False)
        return str(outputs[0]["generated_text"])

    return ask
