"""A folder to the Hub: checked, with a card, in one commit; the same command again changes nothing or goes on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # of whatever sends its requests
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from kinoclip.evaluation.report import Report
from kinoclip.whole_files import write_whole

from .card_facts import dataset_name
from .cards import REPORTS, has_own_text, keep_own, model_card, read_reports
from .checking import check_folder, list_files

_RESULTS_CARD = """---
configs:
- config_name: default
  data_files: data/*.jsonl
tags:
- kinoclip
---

# Measured results

One line for each metric of each report of `kinoclip evaluate`, in one file for each model, written by `kinoclip publish`. Values are
fractions, `low` and `high` the ends of the 95 % interval; `fingerprint` is the same for the same videos with the same labels.
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
    """Check a folder, write its card, send it to the Hub, and say line by line what was done.

    Nothing is visible before the one commit at the end, so that a run that was cut off is continued by the same command; what was
    sent already is not sent again. Reports go into `reports/` and the card into `README.md` of the folder, too.

    Args:
        folder: as `kinoclip convert` and `kinoclip train` write it.
        repo_id: "ORG/NAME"; it is made if it is not there.
        reports: JSON files of `kinoclip evaluate`.
        recipe: name of the paper's row that the model is to be compared with.
        license: of the weights, such as "apache-2.0".
        private: make a new repository private; one that is there stays as it is.
        results_repo: "ORG/NAME" of a data set that collects measured results.
        dry_run: check and list, and neither write nor send.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: the folder cannot be published, or a name is malformed; the message says what to do.
        RuntimeError: the Hub refused, or could not be reached.
    """
    folder = Path(folder)
    for name in filter(None, (repo_id, results_repo)):
        _check_name(name)
    config = check_folder(folder)
    measured = read_reports(folder, reports, config.model_type)
    if results_repo is not None and not measured:
        raise ValueError(f"There are no results for {results_repo}. Give reports with --report, or leave it out.")
    card = model_card(folder, reports=reports, recipe=recipe, repo_id=repo_id, license=license)
    sent, stays = list_files(folder)
    contents = {f"{REPORTS}/{name}": report.to_json() for name, report in measured.items()}
    sent = sorted({*sent, *contents, "README.md"})
    yield f"{folder}: a {config.model_type} model that loads, its weights all finite; reports: {len(measured)}"
    yield f"goes to {repo_id}: {', '.join(sent)}"
    yield from [f"stays here: {', '.join(stays)}"] if stays else []
    if dry_run:
        yield "nothing was written or sent"
        return
    if get_token() is None:
        raise RuntimeError(
            "There is no token for the Hub. Log in with `hf auth login`, or set HF_TOKEN, with a token that may write."
        )
    api = HfApi()
    with _hub_errors(repo_id):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if not has_own_text(card):
            card = keep_own(card, _read_card(api, repo_id), f"The card of {repo_id}")
        _write_whole(folder, {**contents, "README.md": str(card)})
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


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no name of a repository: {error}") from error
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} lacks whose it is. Write ORG/NAME, such as my-name/{repo_id}.")


def _read_card(api: HfApi, repo_id: str) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        try:
            return Path(api.hf_hub_download(repo_id, "README.md", local_dir=temporary)).read_text(encoding="utf-8")
        except RemoteEntryNotFoundError:
            return ""


def _write_whole(folder: Path, contents: Mapping[str, str]) -> None:
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_whole(folder / name, content)


def _commit(
    api: HfApi, repo_id: str, kind: str, message: str, files: Sequence[CommitOperationAdd]
) -> tuple[CommitInfo, bool]:
    """Send what differs by its hash, on top of what is there now; tell whether anything did."""
    before = api.repo_info(repo_id, repo_type=kind).sha
    commit = api.create_commit(repo_id, files, commit_message=message, repo_type=kind, parent_commit=before)
    return commit, commit.oid != before


def _send_results(api: HfApi, results_repo: str, repo_id: str, revision: str, measured: Mapping[str, Report]) -> str:
    """Add the results of a model to a data set of results."""
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
    """Give a flat row for each metric of a report."""
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
    """Say in one line what the Hub did not like."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = (error.server_message or "no reason").strip().splitlines()[0]
        reasons = {
            401: "it does not know the token. Log in anew with `hf auth login`, or set HF_TOKEN",
            403: "the token may not write there. Take one with write access, or a name of your own",
            404: "there is no such place for you. Check the name and the token",
            412: "somebody else changed it meanwhile. Run the same command again",
        }
        later = (
            "run the same command again later; it goes on where it was"
            if status >= 500 or status in (408, 429)
            else "check HF_ENDPOINT"
        )
        reason = reasons.get(status, later)
        raise RuntimeError(f"The Hub refused {repo_id} ({status}: {said}): {reason}.") from error
    except (TransportError, ConnectionError, LocalEntryNotFoundError) as error:
        raise RuntimeError(
            f"The Hub could not be reached for {repo_id}: {' '.join(str(error).split()).rstrip('.')}. Check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE; the same command goes on where it was."
        ) from error
