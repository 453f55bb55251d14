"""`kinoclip corpus`: build the text corpus of ALT from labels."""

import argparse
from pathlib import Path
from typing import Any

from kinoclip.cli import options as shared


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    corpus = commands.add_parser(
        "corpus", help="build a text corpus for ALT from labels, with a table that you correct"
    )
    add = corpus.add_argument
    add("labels", nargs="+", metavar="LABELS", help="a file like --labels-file, or a set: kinetics400, ...; several")
    add("--output", required=True, metavar="FILE", help="the corpus, .jsonl or .json")
    table = "the table, .csv (default: .review.csv beside --output); an existing one is applied, and what you wrote is kept"
    add("--review", metavar="TABLE", help=table)
    units = "units of the labels, .json (default: those of a packaged set, else the words of the labels in WordNet)"
    add("--units", metavar="FILE", help=units)
    shared.add_text_model_options(corpus, "lists and describes the units; its answers are kept beside --output")
    add("--wordnet", metavar="DIR", help="the folder that contains data.noun, if it is not at its usual place")
    add("--no-wordnet", action="store_true", help="use units only")
    add(
        "--sense-model",
        metavar="MODEL",
        help="T5 that chooses descriptions, instead of Lesk: folder or name on the Hub",
    )
    add("--rechoose", action="store_true", help="choose among WordNet's where the units have one description, too")
    add("--categories", metavar="NAMES", help="write only these of body, object, scene, motion; comma-separated")
    corpus.set_defaults(run=_corpus)


def _corpus(options: argparse.Namespace) -> int:
    from kinoclip.storage import check_owned, exclusive, readable_by
    from kinoclip.text.entities import CATEGORIES, load_corpus, save_corpus, select
    from kinoclip.text.review import ReviewTable, review
    from kinoclip.text.tables import REJECTED, REVIEWED

    output = Path(options.output)
    path = output.with_suffix(".review.csv") if options.review is None else Path(options.review)
    if output.suffix not in (".jsonl", ".json") or path.suffix != ".csv":
        raise shared.UsageError(f"--output must be a .jsonl or .json file and --review a .csv, got {output}, {path}.")
    if options.units is not None and options.ask is not None:
        raise shared.UsageError("--units and --ask exclude each other. Give one of them.")
    shared.refuse_distributed("corpus")
    categories = shared.read_names(options.categories) or CATEGORIES
    select([], categories)
    check_owned(output, readable_by(load_corpus))
    output.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(output):
        table = ReviewTable.load_own(path) if path.exists() else ReviewTable([])
        entities = _build(options, output)
        table = ReviewTable.load_own(path) if path.exists() else table  # it may have been edited meanwhile
        try:
            corpus, table = review(entities, table)
        except ValueError as error:
            raise shared.UsageError(f"{path}, {error}") from error
        corpus = select(corpus, categories)
        save_corpus(output, corpus)
        table.save(path)
    counts = ", ".join(f"{len(select(corpus, [category]))} {category}" for category in CATEGORIES)
    rejected = sum(row["keep"].casefold() == REJECTED for row in table.rows)
    reviewed = sum(entity.source == REVIEWED for entity in corpus)
    shared.show(f"{output}: {len(corpus)} entities ({counts})")
    shared.show(f"{path}: {rejected} rejected, {reviewed} edited or added")
    return 0


def _build(options: argparse.Namespace, output: Path) -> list[Any]:
    """Return the entities of all sets of labels, with their candidates."""
    from kinoclip.text.entities import CORPORA, build_corpus, expand, packaged_units
    from kinoclip.text.labels import load_names, match_key
    from kinoclip.text.units import read_units, write_units
    from kinoclip.text.wordnet import ask_sense_model, lesk, open_wordnet

    sets = {source: load_names(source) for source in options.labels}
    try:
        wordnet = None if options.no_wordnet else open_wordnet(options.wordnet)
    except (FileNotFoundError, ImportError) as error:
        raise shared.UsageError(f"{error} Or leave it out with --no-wordnet.") from error
    given = None if options.units is None else read_units(options.units)
    ask = shared.load_text_model(options)
    if ask is not None:
        given = write_units(
            [name for names in sets.values() for name in names],
            ask,
            output.with_suffix(".units.json"),
            is_described=lambda unit: wordnet is not None and bool(wordnet.synsets(unit)),
            progress=lambda total: shared.Progress(total, unit="labels").add,
        )
    known = set() if given is None else {match_key(name) for name in given.labels}
    disambiguate = lesk if options.sense_model is None else ask_sense_model(options.sense_model)
    entities: list[Any] = []
    for source, names in sets.items():
        is_packaged = source in CORPORA and not Path(source).exists() and not known.issuperset(map(match_key, names))
        units = packaged_units(source) if is_packaged else given
        if units is None and wordnet is None:
            raise shared.UsageError(f"{source} has no packaged units. Give --units, --ask or WordNet.")
        choice: dict[str, Any] = {"disambiguate": disambiguate, "rechoose": options.rechoose}
        entities = expand(entities, build_corpus(names, units=units, wordnet=wordnet, **choice))
    return entities
