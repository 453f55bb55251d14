"""`kinoclip attributes`: describe videos by phrases of a lexicon, for BIKE's attributes branch."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinoclip.cli import options as shared
from kinoclip.storage import check_exists, check_owned


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    help = "describe videos by phrases of a lexicon, for training and evaluating BIKE's attributes branch"
    attributes = commands.add_parser("attributes", help=help)
    add = attributes.add_argument
    shared.add_path_argument(attributes, nargs="*")
    add("--data", help="labelled videos as `kinoclip train` reads them, instead of PATH")
    add("--dataset", help="its name if it is a known one, such as ucf101 (default: detected)")
    add("--split", help="part of it (default: all)")
    add("--fold", type=int, default=1, help="of UCF-101 and HMDB-51 (default: %(default)s)")
    add("--segments", action="store_true", help="annotated intervals instead of whole videos, as data.segments")
    lexicon = "phrases to choose from: a file like --labels-file, kinetics400, imagenet1k, wordnet:noun.artifact, ..."
    add("--lexicon", required=True, help=lexicon)
    add("--top-k", type=int, default=5, help="phrases per video (default: %(default)s)")
    output = "the phrases of each video, .json; the same command continues the records beside it, .jsonl"
    add("--output", required=True, metavar="FILE", help=output)
    shared.add_job_options(attributes, "describe again what could not be read, or what has changed")
    shared.add_model_options(attributes, "--clip")
    attributes.set_defaults(run=_attributes)


def _attributes(options: argparse.Namespace) -> int:
    from kinoclip.data.files import check_source

    shared.check_least(options, top_k=1, fold=1)
    output = Path(options.output)
    if output.suffix != ".json":
        raise shared.UsageError(f"--output must be a .json file, got {options.output}.")
    if bool(options.paths) == (options.data is not None):
        raise shared.UsageError("Give either PATH or --data, which names a data set.")
    for path in options.paths:
        check_exists(path)
    if options.data is not None:
        check_source(options.data)
    shared.check_model_options(options)
    from kinoclip.inference.attributes import AttributeFinder, load_lexicon
    from kinoclip.inference.attributes_job import AttributesJob, owns_found, write_found
    from kinoclip.inference.feature_cache import FeatureCache
    from kinoclip.video.isolation import start_server

    records = output.with_suffix(".jsonl")
    check_owned(output, lambda path: owns_found(path, records))
    names, rows = _read_rows(options, [output, records, options.features])
    isolate = len(names) >= shared.ISOLATED_FROM if options.isolate is None else options.isolate
    if isolate:
        start_server()  # it imports torch while the model is loaded
    lexicon, launch = load_lexicon(options.lexicon), shared.find_launch(options.device)
    clip = shared.load_classifier(options, launch)
    job = AttributesJob(
        AttributeFinder(clip.model, clip.processor, lexicon, options.top_k, options.model),
        rows,
        options.batch_size,
        None if options.features is None else FeatureCache(options.features, clip.model, clip.video_processor),
        options.timeout,
        isolate,
        digest=options.digest,
    )
    process = {} if launch is None else {"process": launch.process_index, "processes": launch.num_processes}

    def write() -> None:
        known, failed = write_found(output, records)
        errors = f", without {failed} that cannot be read, see {records}" if failed else ""
        shared.notify(f"wrote {output}: {known} videos{errors}")

    plan = job.plan(names, **process)
    return shared.write_records(job, plan, records, launch, top_k=0, retry=options.retry, then=write)


def _read_rows(
    options: argparse.Namespace, own: list[Any]
) -> tuple[list[str], Callable[[str], Mapping[str, Any] | None]]:
    """Return the names of the videos, and a function that returns the row of a name."""
    from kinoclip.data import load_videos
    from kinoclip.inference.attributes_job import name_videos

    if options.data is None:
        rows = name_videos({path: shared.find_videos([path], own) for path in options.paths})
        return list(rows), rows.get
    names = ("split", "dataset", "fold", "segments")
    data: Any = load_videos(options.data, **{name: getattr(options, name) for name in names})
    indices = {name: index for index, name in enumerate(data["name"])}
    return list(indices), lambda name: data[indices[name]] if name in indices else None
