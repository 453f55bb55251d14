"""`kinoclip search`: find videos by a text."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .options import UsageError


def add_command(commands: Any) -> None:
    """Declare `kinoclip search` and its options."""
    search = commands.add_parser("search", help="find the videos that fit a text best")
    search.add_argument("embeddings", metavar="FILE", help="what kinoclip embed wrote")
    search.add_argument("queries", nargs="+", metavar="TEXT", help="what to look for, in words")
    search.add_argument("--top-k", type=int, default=5, help="videos for each text (default: %(default)s)")
    search.add_argument("--model", help="the model that made the file, if it is not where it was")
    search.add_argument("--json", action="store_true", help="a JSON line for each text")
    search.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> int:
    from kinoclip.inference.search import VideoEmbeddings, search

    if options.top_k < 1:
        raise UsageError(f"--top-k {options.top_k}: ask for at least one video.")
    embeddings = VideoEmbeddings.load(options.embeddings)
    for query, matches in zip(
        options.queries,
        search(embeddings, options.queries, model=options.model, top_k=options.top_k),
        strict=True,
    ):
        if options.json:
            found = [{"video": video, "score": round(score, 6)} for video, score in matches]
            print(json.dumps({"query": query, "videos": found}))
        else:
            print(query)
            for video, score in matches:
                print(f"  {score:6.3f}  {video.encode('utf-8', 'backslashreplace').decode()}")
    return 0
