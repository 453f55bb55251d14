"""`kinoclip embed` and `search`: search videos by text."""

import argparse
from pathlib import Path
from typing import Any

from kinoclip.cli import options as shared
from kinoclip.storage import check_exists, check_owned, exclusive, readable_by


def add_commands(commands: Any) -> None:
    """Register the commands and their options."""
    embed = commands.add_parser("embed", help="write a vector for each video, for kinoclip search and others")
    shared.add_path_argument(embed)
    embed.add_argument("--output", required=True, metavar="FILE", help="the vectors, .safetensors")
    pooling = "the method's own vector, or the mean frame, for methods that weigh frames for each label (default: own)"
    embed.add_argument("--pooling", choices=("own", "mean"), default="own", help=pooling)
    shared.add_model_options(embed)
    embed.set_defaults(run=_embed)

    search = commands.add_parser("search", help="find the videos that match a text best")
    add = search.add_argument
    add("embeddings", metavar="FILE", help="file of kinoclip embed")
    add("queries", nargs="+", metavar="TEXT", help="what to search for, in words")
    add("--top-k", type=int, default=5, help="videos for each text (default: %(default)s)")
    add("--model", help="the model that made the file, if it is not found under its name")
    add("--json", action="store_true", help="print a JSON line for each text")
    search.set_defaults(run=_search)


def _embed(options: argparse.Namespace) -> int:
    shared.refuse_distributed("embed")
    videos = shared.find_videos(options.paths, [options.output, options.features])
    shared.check_model_options(options)
    from kinoclip.inference.search import VideoEmbeddings, check_embeddings_path, embed_videos

    check_owned(check_embeddings_path(options.output), readable_by(VideoEmbeddings.load))
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    with exclusive(options.output):
        embeddings = embed_videos(
            videos,
            model=shared.load_classifier(options),
            pooling=options.pooling,
            batch_size=options.batch_size,
            features=options.features,
            read_seconds=options.timeout,
            on_record=shared.Progress(len(videos)),
        )
        embeddings.save(options.output)
    rows, width = embeddings.embeds.shape
    skipped = f", without {len(embeddings.unreadable)} that cannot be read" if embeddings.unreadable else ""
    shared.notify(f"wrote {options.output}: {rows} videos, {width} numbers each{skipped}")
    return 0


def _search(options: argparse.Namespace) -> int:
    shared.check_least(options, top_k=1)
    check_exists(options.embeddings, " Make it with `kinoclip embed`.")
    from kinoclip.inference.search import VideoEmbeddings, search

    embeddings = VideoEmbeddings.load(options.embeddings)
    results = search(embeddings, options.queries, model=options.model, top_k=options.top_k)
    for query, matches in zip(options.queries, results, strict=True):
        if options.json:
            found = [{"video": video, "score": round(score, 6)} for video, score in matches]
            shared.show_json({"query": query, "videos": found})
        else:
            shared.show(query, *(f"  {score:6.3f}  {video}" for video, score in matches))
    return 0
