from pathlib import Path

import pytest

# lexicographer files by number, see lexnames(5WN)
ACT, ARTIFACT, COGNITION, CONTACT, MOTION = 4, 6, 9, 35, 38
NOUNS = [
    (["brush"], ARTIFACT, "an implement that has hairs or bristles"),
    (["brush"], ACT, "the act of brushing your teeth"),
    (["ice_hockey", "hockey"], ACT, "a game played on an ice rink"),
    (["ice"], ARTIFACT, "a frozen dessert"),
    (["idea"], COGNITION, "the content of thinking"),
]
VERBS = [
    (["brush"], CONTACT, "rub with a brush"),
    (["swing"], MOTION, "move in a curve"),
]


@pytest.fixture(scope="session")
def wordnet_folder(tmp_path_factory) -> Path:
    """A few synsets, in the files that Princeton and Debian ship."""
    folder = tmp_path_factory.mktemp("wordnet") / "dict"
    folder.mkdir()
    for part, letter, synsets in (("noun", "n", NOUNS), ("verb", "v", VERBS), ("adj", "a", []), ("adv", "r", [])):
        data, places = "", {}
        for lemmas, lexicographer_file, gloss in synsets:
            offset = f"{len(data):08d}"
            words = " ".join(f"{lemma} 0" for lemma in lemmas)
            frames = " 00" if letter == "v" else ""
            data += f"{offset} {lexicographer_file:02d} {letter} {len(lemmas):02x} {words} 000{frames} | {gloss}\n"
            for lemma in lemmas:
                places.setdefault(lemma, []).append(offset)
        index = [
            f"{lemma} {letter} {len(offsets)} 0 {len(offsets)} 0 {' '.join(offsets)}\n"
            for lemma, offsets in sorted(places.items())
        ]
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text("".join(index))
        (folder / f"{part}.exc").write_text("")
    return folder
