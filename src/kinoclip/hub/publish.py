"""Upload of a folder with a model card to the Hub, in one commit; running it again is safe.

Before, the folder is checked: it loads, it is complete, and it holds nothing private.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, get_token, parse_eval_result_entries
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # of its HTTP client
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from safetensors import SafetensorError, safe_open
from transformers import AutoModel

from kinoclip.evaluation.report import Report
from kinoclip.hub.cards import REPORTS, dataset_name, eval_results, has_own_text, keep_own, model_card, read_reports
from kinoclip.methods import find_method
from kinoclip.methods.auto import load_processor, read_config
from kinoclip.modeling.checkpoints import check_shapes
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.shim import SHIM_NAME, write_shim
from kinoclip.storage import Owner, check_owned, claimed, readable_by, write_text

# Read by the server of an Inference Endpoint
_ENDPOINT = {
    "handler.py": '"""Answers requests of an Inference Endpoint with the package kinoclip."""\n'
    'from kinoclip.inference.endpoint import EndpointHandler\n\n__all__ = ["EndpointHandler"]\n',
    "requirements.txt": f"kinoclip>={version('kinoclip')}\n",
}
# Other files are not uploaded: checkpoints, pickles, private files.
_PUBLISHED = (
    "README.md",
    "LICENSE",
    "config.json",
    f"{SHIM_NAME}.py",
    *_ENDPOINT,
    "model*.safetensors",
    "model.safetensors.index.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chinese_tokenizer/*.json",
    "chinese_tokenizer/*.txt",
    "training.json",
    f"{REPORTS}/*.json",
    ".eval_results/*.yaml",
)
_SECRET = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{32,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_VERSION = re.compile(r">=.*")
_RESULTS_CARD = """---
configs:
- config_name: default
  data_files: data/*.jsonl
tags:
- kinoclip
---

# Measured results

One row per metric of each report of `kinoclip evaluate`, one file per model, written by `kinoclip publish`. Values are fractions; `low` and
`high` are the ends of the 95 % interval; equal `fingerprint` means the same videos with the same labels.
"""


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    reports: Sequence[str | Path] = (),
    recipe: str | None = None,
    license: str | None = None,
    private: bool = False,
    results_repo: str | None = None,
    dry_run: bool = False,
) -> Iterator[str]:
    """Check a folder, write its card, upload it, and yield a line about each step.

    The upload becomes visible with the single commit at the end. After an interruption, run the same command again; uploaded files are
    not sent twice. Reports, results (`.eval_results/`), the card, and the handler of an Inference Endpoint with its requirements are also
    written into the folder.

    Args:
        folder: as `kinoclip convert` and `kinoclip train` write it.
        repo_id: "ORG/NAME"; created if it does not exist.
        reports: JSON files of `kinoclip evaluate`.
        recipe: name of the recipe whose printed numbers the card shows.
        license: of the weights, such as "apache-2.0".
        private: create a private repository; an existing one is not changed.
        results_repo: "ORG/NAME" of a dataset repository that collects measured results.
        dry_run: check and list only.

    Raises:
        FileNotFoundError: the folder or a report does not exist.
        ValueError: the folder cannot be published, or a name is invalid.
        RuntimeError: the Hub refused the upload or could not be reached.
    """
    folder = Path(folder)
    for name in filter(None, (repo_id, results_repo)):
        _check_name(name)
    config = check_folder(folder)
    measured = read_reports(folder, reports, config.model_type)
    if results_repo is not None and not measured:
        raise ValueError(f"{results_repo} needs results. Pass reports with --report, or leave --results-repo out.")
    card = model_card(folder, reports=reports, recipe=recipe, repo_id=repo_id, license=license)
    sent, kept = list_files(folder)
    contents = {f"{REPORTS}/{name}": report.to_json() for name, report in measured.items()}
    contents |= {f".eval_results/{Path(name).stem}.yaml": eval_results(measured[name], name) for name in measured}
    contents |= _ENDPOINT
    for name, content in contents.items():
        check_owned(folder / name, _owner(name, content))
    sent = sorted({*sent, *contents, "README.md"})
    yield f"{folder}: a {config.model_type} model that loads, its weights all finite; reports: {len(measured)}"
    yield f"goes to {repo_id}: {', '.join(sent)}"
    yield from [f"stays here: {', '.join(kept)}"] if kept else []
    if dry_run:
        yield "nothing was written or sent"
        return
    if get_token() is None:
        raise RuntimeError("Publishing needs a token with write access. Log in with `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    with _hub_errors(repo_id):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if not has_own_text(card):
            card = keep_own(card, _read_card(api, repo_id), f"The card of {repo_id}")
        for name, content in {**contents, "README.md": str(card)}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            # a card keeps the text of its owner, see `keep_own`
            write_text(folder / name, content, owns=claimed if name == "README.md" else _owner(name, content))
        files = [CommitOperationAdd(name, str(folder / name)) for name in sent]
        commit, changed = _commit(api, repo_id, "model", f"Publish {repo_id.rpartition('/')[2]}", files)
    yield (
        f"published {api.endpoint}/{repo_id} in one commit, {commit.oid[:12]}"
        if changed
        else (f"nothing changed: {api.endpoint}/{repo_id} holds these files already")
    )
    if results_repo is not None:
        with _hub_errors(results_repo):
            yield _send_results(api, results_repo, repo_id, commit.oid, measured)


def _owner(name: str, content: str) -> Owner:
    """Return the owner of the files that an earlier run wrote under a name; a handler that was edited is not one of them."""
    if name.endswith(".json"):
        return Report.is_report
    if name.endswith(".yaml"):
        return readable_by(lambda path: parse_eval_result_entries(yaml.safe_load(path.read_bytes())))
    return readable_by(lambda path: _VERSION.sub("", path.read_text("utf-8")) == _VERSION.sub("", content))


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is not a valid repository name: {error}") from error
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} has no owner. Write ORG/NAME, such as my-name/{repo_id}.")


def _read_card(api: HfApi, repo_id: str) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        try:
            return Path(api.hf_hub_download(repo_id, "README.md", local_dir=temporary)).read_text(encoding="utf-8")
        except RemoteEntryNotFoundError:
            return ""


def _commit(
    api: HfApi, repo_id: str, kind: str, message: str, files: Sequence[CommitOperationAdd]
) -> tuple[CommitInfo, bool]:
    """Commit the files whose hash differs on top of the current revision; return whether there were any."""
    before = api.repo_info(repo_id, repo_type=kind).sha
    commit = api.create_commit(repo_id, files, commit_message=message, repo_type=kind, parent_commit=before)
    return commit, commit.oid != before


def _send_results(api: HfApi, results_repo: str, repo_id: str, revision: str, measured: Mapping[str, Report]) -> str:
    rows = [row for report in measured.values() for row in result_rows(report, repo_id, revision)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    name = f"data/{repo_id.replace('/', '--')}.jsonl"
    api.create_repo(results_repo, repo_type="dataset", exist_ok=True)
    files = [CommitOperationAdd(name, lines.encode())]
    if not api.file_exists(results_repo, "README.md", repo_type="dataset"):
        files.append(CommitOperationAdd("README.md", _RESULTS_CARD.encode()))
    _, changed = _commit(api, results_repo, "dataset", f"Add results of {repo_id}", files)
    return f"{len(rows)} results are in {api.endpoint}/datasets/{results_repo}{'' if changed else ' already'}"


def result_rows(report: Report, model: str, revision: str) -> Iterator[dict[str, Any]]:
    """Yield a flat row for each metric of a report."""
    coverage = report.settings.get("coverage", {})
    for metric, value in report.metrics.items():
        low, high = report.intervals.get(metric, (None, None))
        yield {
            "model": model,
            "revision": revision,
            "method": report.method,
            "dataset": dataset_name(report),
            "split": coverage.get("split"),
            "protocol": report.protocol["name"],
            "metric": metric,
            "value": value,
            "low": low,
            "high": high,
            "videos": report.num_videos,
            "unreadable": len(report.failures),
            "fingerprint": coverage.get("fingerprint", ""),
            "versions": report.settings.get("versions", {}),
        }


@contextmanager
def _hub_errors(repo_id: str) -> Iterator[None]:
    """Convert errors of the Hub to a RuntimeError of one line with advice."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason_of_hub = (error.server_message or "no reason").strip().splitlines()[0]
        reasons = {
            401: "unknown token. Log in again with `hf auth login`, or set HF_TOKEN",
            403: "the token has no write access there. Use another token or repository",
            404: "not found, or not visible with this token. Check the name and the token",
            412: "the repository changed in the meantime. Run the same command again",
        }
        later = (
            "run the same command again later; it continues"
            if status >= 500 or status in (408, 429)
            else "check HF_ENDPOINT"
        )
        reason = reasons.get(status, later)
        raise RuntimeError(f"The Hub refused {repo_id} ({status}: {reason_of_hub}): {reason}.") from error
    except (TransportError, ConnectionError, LocalEntryNotFoundError) as error:
        raise RuntimeError(
            f"The Hub could not be reached for {repo_id}: {' '.join(str(error).split()).rstrip('.')}. Check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE, and run the same command again; it continues."
        ) from error


def check_folder(folder: Path) -> RecognizerConfig:
    """Check that a folder can be loaded by others and holds no secrets, and return its config.

    A missing folder is a `FileNotFoundError`; a file that is missing, damaged or holds a secret a `ValueError`.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist. Make it with `kinoclip convert` or `kinoclip train`.")
    config: Any = read_config(str(folder))
    find_method(config)
    _check_weights(folder, config)
    if not any((folder / f"{name}.json").is_file() for name in ("processor_config", "video_preprocessor_config")):
        raise ValueError(f"{folder} has no processor. Save it: `processor.save_pretrained({str(folder)!r})`.")
    load_processor(str(folder), needs_tokenizer=True)
    _check_shim(folder)
    for name in list_files(folder)[0]:
        secret = None if name.endswith(".safetensors") else _SECRET.search((folder / name).read_bytes())
        if secret:
            start = secret.group()[:6].decode()
            raise ValueError(
                f"{folder / name} contains what looks like a secret ({start}...). Remove it, and revoke the secret."
            )
    checked: RecognizerConfig = config
    return checked


def list_files(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files of a folder that are published, and the other files and folders in it."""
    published, private = [], set()
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if file.is_dir():
            continue
        if any(fnmatch(name, known) and name.count("/") == known.count("/") for known in _PUBLISHED):
            published.append(name)
        else:
            first, slash, _ = name.partition("/")
            private.add(first + slash)
    return sorted(published), sorted(private)


def _check_weights(folder: Path, config: RecognizerConfig) -> None:
    """Check that all weights exist, have the right shape and are finite."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in AutoModel.from_config(config).state_dict().items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118  # not a mapping
                    tensor = weights.get_tensor(name)
                    shapes[name] = tuple(tensor.shape)
                    if tensor.is_floating_point() and not tensor.isfinite().all():
                        raise ValueError(f"{file}: {name} holds NaN or infinity. Train or convert the model again.")
        except SafetensorError as error:
            raise ValueError(f"{file} is not a complete safetensors file: {error}. Save it again.") from error
    if not shapes:
        raise ValueError(f"{folder} has no model.safetensors. Save it: `model.save_pretrained({str(folder)!r})`.")
    check_shapes(expected, shapes, str(folder), "its config.json", "Save model and config together.")


def _check_shim(folder: Path) -> None:
    """Check that the code that others will run is the shim as this package writes it."""
    path = folder / f"{SHIM_NAME}.py"
    if not path.is_file():
        raise ValueError(f"{folder} has no {path.name}. Load the model and save it there again.")
    written = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / path.name).write_text(written, encoding="utf-8")
        if write_shim(temporary, set()).read_text(encoding="utf-8") != written:
            raise ValueError(f"{path} was changed, and others would run it. Delete it, and save the model again.")
