"""`kinoclip publish`: a folder to the Hub, with a card of what was measured."""

from __future__ import annotations

import argparse
from typing import Any


def add_command(commands: Any) -> None:
    """Declare `kinoclip publish` and its options."""
    publish = commands.add_parser("publish", help="check a model folder, write its card and send it to the Hub")
    publish.add_argument("folder", metavar="DIR", help="as convert and train write it")
    publish.add_argument("repo_id", metavar="REPO_ID", help="ORG/NAME on the Hub; made if it is not there")
    publish.add_argument(
        "--report",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON of kinoclip evaluate, for the card; repeatable",
    )
    publish.add_argument("--recipe", metavar="NAME", help="row of a paper to compare with; see kinoclip recipes")
    publish.add_argument("--license", metavar="ID", help="of the weights, such as apache-2.0")
    publish.add_argument("--private", action="store_true", help="make a new repository private")
    publish.add_argument("--results-repo", metavar="ORG/NAME", help="data set on the Hub that collects results")
    publish.add_argument("--dry-run", action="store_true", help="check and list, and neither write nor send")
    publish.set_defaults(run=_publish)


def _publish(options: argparse.Namespace) -> int:
    from kinoclip.hub.publish import publish

    for line in publish(
        options.folder,
        options.repo_id,
        reports=options.report,
        recipe=options.recipe,
        license=options.license,
        private=options.private,
        results_repo=options.results_repo,
        dry_run=options.dry_run,
    ):
        print(line, flush=True)
    return 0
