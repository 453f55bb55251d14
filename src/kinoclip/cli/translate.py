"""`kinoclip translate`: find second names of labels, in Chinese or another language."""

import argparse
from pathlib import Path
from typing import Any

from kinoclip.cli import options as shared


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    translate = commands.add_parser(
        "translate",
        help="find second names of labels in another language, or paraphrases, in a table that you correct",
    )
    add = translate.add_argument
    add("labels", nargs="+", metavar="LABELS", help="a file like --labels-file, or a set: kinetics400, ...; several")
    add(
        "--output", required=True, metavar="FILE", help="the names, .json, for --second-labels and data.chinese_labels"
    )
    table = "the table, .csv (default: .review.csv beside --output); an existing one is applied, and what you wrote is kept"
    add("--review", metavar="TABLE", help=table)
    add("--language", default="Chinese", help="of the names; English for paraphrases (default: %(default)s)")
    names = "names that are known, .json or a set; repeatable; packaged sets in the language follow"
    add("--names", **shared.REPEATABLE, metavar="FILE", help=names)
    add("--variants", type=int, default=1, metavar="N", help="names of each label (default: %(default)s)")
    shared.add_text_model_options(translate, "names the other labels; its answers are kept beside --output")
    add("--back", action="store_true", help="ask --ask for the English of its names too, for you to compare")
    translate.set_defaults(run=_translate)


def _translate(options: argparse.Namespace) -> int:
    from kinoclip.storage import check_owned, exclusive, readable_by
    from kinoclip.text.chinese import NAME_SETS, load_second_names
    from kinoclip.text.labels import load_names, match_key
    from kinoclip.text.translation import NamesTable, is_names_file, propose_names, review_names, write_names

    output = Path(options.output)
    path = output.with_suffix(".review.csv") if options.review is None else Path(options.review)
    if output.suffix != ".json" or path.suffix != ".csv":
        raise shared.UsageError(f"--output must be a .json file and --review a .csv, got {output}, {path}.")
    if options.back and options.ask is None:
        raise shared.UsageError("--back asks the model of --ask. Give --ask.")
    shared.check_least(options, variants=1)
    shared.refuse_distributed("translate")
    labels = list({match_key(name): name for source in options.labels for name in load_names(source)}.values())
    dictionaries, language = {}, options.language[:1].upper() + options.language[1:]
    for source in (*options.names, *NAME_SETS):
        found, names = load_second_names(source, language)
        if found == language:
            dictionaries[source] = names
        elif source in options.names:
            raise shared.UsageError(f"--names {source} is in {found}, and --language is {language}.")
    check_owned(output, readable_by(is_names_file))
    check_owned(path, readable_by(NamesTable.load_own))
    if output.exists() and load_second_names(output)[0] != language:
        raise shared.UsageError(f"--output {output} has names in another language. Write to another file.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(output):
        rows = propose_names(
            labels,
            language,
            dictionaries,
            shared.load_text_model(options),
            output.with_suffix(".answers.json"),
            model=options.ask or "",
            variants=options.variants,
            translate_back=options.back,
            progress=lambda total: shared.Progress(total, unit="labels").add,
        )
        before = NamesTable.load_own(path) if path.exists() else NamesTable([])
        try:
            names, table = review_names(rows, before, language)
        except ValueError as error:
            raise shared.UsageError(f"{path}, {error}") from error
        if names:
            write_names(output, language, names, table)
        table.save(path)
    noted = sum(bool(row["note"]) for row in table.rows)
    shared.show(f"{output}: {len(names)} of {len(table.rows)} labels have a name in {language}")
    shared.show(f"{path}: {noted} to check, {sum(row['source'] == 'reviewed' for row in table.rows)} edited")
    if not names:
        shared.notify(f"{output} is not written, since no label has a name. Give --ask, or write names into {path}.")
    return 0 if names else shared.FAILURE
