"""How `kinetics400-wordnet` grew from `kinetics400`: relations of WordNet, rules, and a review that the packaged files hold.

`python examples/corpora/grow.py [FOLDER WITH data.noun]` finds all candidates again and prints those that are neither an entity nor in the
log of rejected ones; there should be none.
"""

import csv
import sys

from kinoclip.text.entities import load_corpus
from kinoclip.text.labels import packaged_text
from kinoclip.text.wordnet import category_of, open_wordnet, split_words

# found for units whose meaning is another one
_WRONG = """
    anchor.n.01 arrange.v.01 assemble.v.01 bar.n.02 barricade.v.01 behave.v.02 blow.v.03 case.n.05 clap.v.02
    collection.n.04 contend.v.06 control.n.09 couple.n.05 cut.v.15 dainty.n.01 detonator.n.01 fork.n.04 gauge.n.01
    giving.n.01 helmet.n.01 hole.n.03 hoop.n.01 jar.n.01 kit.n.01 leaf.n.03 line.n.23 machine.n.01 mud.n.01 outdo.v.02
    owner.n.01 party.n.05 pass.v.09 passenger.n.01 patty.n.01 plant.n.01 pour.v.04 record.v.01 ribbon.n.01 roll.v.07
    run.v.33 seed.n.01 site.n.02 spinal_column.n.01 stop.v.01 strip.n.05 swallow.v.01 target.v.01 throat.n.01
    tube.n.01 twist.v.10 wall.n.02 wheel.n.01
"""
CORRECTED = {"leaves": "leaf.n.01", "flowers": "flower.n.01"}
MAX_COORDINATES = 60  # of a verb; the terms of wider ones have little in common


def words_of(synset):
    """Return the words of gloss, examples and names of a synset, and of the gloss and names of its hypernyms."""
    texts = [*synset.examples()]
    for each in (synset, *synset.hypernyms()):
        texts += [each.definition(), *(name.replace("_", " ") for name in each.lemma_names())]
    return set(split_words(" ".join(texts)))


def find_seed(entity, wordnet):
    """Return the synset of an entity: its own, or the sense of its unit that shares most words with it; else None."""
    if entity.unit in CORRECTED:
        return wordnet.synset(CORRECTED[entity.unit])
    if entity.source.startswith("wordnet:"):
        return wordnet.synset(entity.source.removeprefix("wordnet:"))
    part, words = "v" if entity.category == "motion" else "n", entity.unit.split()
    context = set(split_words(" ".join([entity.description, *entity.labels]))) - set(split_words(entity.unit))
    context |= {wordnet.morphy(word) or word for word in context}
    fitting = {entity.category, "object"} if entity.category == "scene" else {entity.category}
    for name in ("_".join(words), words[0] if part == "v" else words[-1]):
        senses = [synset for synset in wordnet.synsets(name, part) if category_of(synset.lexname()) in fitting]
        if senses:
            shared = [len(context & words_of(synset)) for synset in senses]
            return senses[shared.index(max(shared))] if max(shared) or len(senses) == 1 else None
    return None


def relatives(seed):
    """Yield what grows from a synset, with the relation."""
    for lower in seed.hyponyms():
        yield lower, "hyponym" if seed.pos() == "n" else "troponym"
    if seed.pos() == "n":
        yield from ((lowest, "hyponym of hyponym") for lower in seed.hyponyms() for lowest in lower.hyponyms())
        yield from ((part, "part") for part in seed.part_meronyms())
        return
    for upper in seed.hypernyms():
        others = upper.hyponyms()
        yield from ((other, "coordinate") for other in others if len(others) <= MAX_COORDINATES and other != seed)


def main():
    """Compare the candidates with the packaged entities and the log."""
    wordnet = open_wordnet(sys.argv[1] if len(sys.argv) > 1 else None)
    found = [find_seed(entity, wordnet) for entity in load_corpus("kinetics400")]
    seeds = {synset for synset in found if synset is not None and synset.name() not in _WRONG.split()}
    candidates = {
        (other.name(), how, seed.name()) for seed in seeds for other, how in relatives(seed) if other not in seeds
    }
    names = {name for name, _, _ in candidates}
    grown = [entity for entity in load_corpus("kinetics400-wordnet") if ", " in entity.source]
    kept = {tuple(entity.source.removeprefix("wordnet:").replace(", ", "|").split("|")) for entity in grown}
    rejected = list(csv.DictReader(packaged_text("corpora/kinetics400_wordnet_rejected.csv").splitlines()))
    decided = {name for name, _ in kept} | {row["synset"] for row in rejected}
    told = {(name, *how.rsplit(" of ", 1)) for name, how in kept}
    told |= {(row["synset"], row["relation"], row["of"]) for row in rejected}
    print(f"{len(seeds)} seeds, {len(names)} candidates: {len(kept)} kept, {len(rejected)} rejected")
    print("undecided:", *sorted(names - decided))
    print("of another relation:", *sorted(" ".join(one) for one in told - candidates))


if __name__ == "__main__":
    main()
