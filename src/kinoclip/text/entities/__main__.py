"""Command line: `python -m kinoclip.text.entities --labels NAME|FILE [--units FILE.json] --output FILE.jsonl`."""

import argparse
import sys

from kinoclip.text.wordnet import ask_sense_model, lesk, open_wordnet

from . import CATEGORIES, build_corpus, save_corpus, select


def main(arguments: list[str] | None = None) -> int:
    """Make a corpus as the command line says; what it holds is counted on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kinoclip.text.entities", description="Make ALT's text corpus.")
    parser.add_argument("--labels", required=True, help="a packaged label set, or a file of labels")
    parser.add_argument("--units", help="JSON: what a frame of each label can show")
    parser.add_argument("--output", required=True, help="JSONL, replaced if it exists")
    parser.add_argument("--wordnet", help="the folder that holds data.noun, if it is not at its usual place")
    parser.add_argument("--no-wordnet", action="store_true", help="use the units only")
    parser.add_argument("--sense-model", help="a T5 trained on word senses, instead of Lesk")
    options = parser.parse_args(arguments)
    try:
        wordnet = None if options.no_wordnet else open_wordnet(options.wordnet)
        disambiguate = ask_sense_model(options.sense_model) if options.sense_model else lesk
        entities = build_corpus(options.labels, units=options.units, wordnet=wordnet, disambiguate=disambiguate)
        save_corpus(options.output, entities)
    except (ImportError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    counts = ", ".join(f"{len(select(entities, [category]))} {category}" for category in CATEGORIES)
    sys.stderr.write(f"{options.output}: {len(entities)} entities ({counts})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
