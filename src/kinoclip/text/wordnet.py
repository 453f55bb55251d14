"""WordNet: the senses of words, and which of them an action means."""

import contextlib
import difflib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# (word, context, descriptions of its senses) -> index of the description
Disambiguator = Callable[[str, str, Sequence[str]], int]

DEBIAN_FOLDER = Path("/usr/share/wordnet")
_ADVICE = (
    "Install it by `apt-get install --no-install-recommends wordnet-base` or `python -m nltk.downloader wordnet`, or "
    "give the folder that holds data.noun."
)
# The lexicographer files of WordNet 3.0 in their order, see its manual page lexnames(5WN). Debian leaves the list out.
_LEXNAMES = """
    adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
    noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person
    noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance
    noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption verb.contact
    verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl
"""
# Words that name nothing by themselves. Labels contain few of them; the glosses of WordNet contain the rest.
_STOP_WORDS = """
    a about above across after against all almost along also although always am among an and another any are around
    as at away back be because been before behind being below beneath beside between both but by can cannot could did
    do does doing don't down during each either else enough especially etc even ever every few for from had has have
    having he her here hers him his how i if in into is isn't it its itself just like made makes many may me might more
    most much must my neither no nor not number of off often on once one only onto or other others our out over own
    part per quite rather s same she should similar since so some someone something somewhere somewhat still such t
    than that the their them then there these they thing things this those through to together too toward towards two
    under underneath until up upon upside us used using usually very was we were what when where whether which while
    who whom whose why will with within without would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def split_words(text: str) -> list[str]:
    """Split a text into words, in lower case and without stop words.

    >>> split_words("Putting something on the edge of a table")
    ['putting', 'edge', 'table']
    """
    return [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]


def lesk(word: str, context: str, descriptions: Sequence[str]) -> int:
    """Choose the description that shares most words with the context; the first of equals, which is the most frequent sense.

    Source: Lesk 1986, the simplified form that ALT's reference for its filter builds on.

    >>> lesk("bat", "hitting a ball with a bat", ["a nocturnal mammal that flies", "a club used for hitting a ball"])
    1
    """
    words = set(split_words(context))
    return max(range(len(descriptions)), key=lambda sense: len(words.intersection(split_words(descriptions[sense]))))


def sense_question(word: str, context: str, descriptions: Sequence[str]) -> str:
    """Return the question that T5 models for word senses were trained on.

    Source: Wahle et al. 2021, model card of jpwahle/t5-word-sense-disambiguation.
    """
    choices = ", ".join(f'" {description} "' for description in descriptions[:-1])
    choices += f'{", or " if choices else ""}" {descriptions[-1]} "'
    marked = re.sub(rf"\b{re.escape(word)}\b", f'" {word} "', context, count=1)
    if marked == context:  # the context contains the word in another form, or not at all
        marked = f'{context} " {word} "'
    return (
        f'question: which description describes the word " {word} " best in the following context? '
        f"descriptions:[ {choices} ] context: {marked}"
    )


def ask_sense_model(model: str | Path = "jpwahle/t5-word-sense-disambiguation") -> Disambiguator:
    """Return a function that chooses by a T5 trained on word senses, instead of `lesk`.

    Args:
        model: name on the Hugging Face Hub, or a folder.

    Source: ALT sec. 3.1, step 3.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # slow to import

    tokenizer = AutoTokenizer.from_pretrained(model)
    network: Any = AutoModelForSeq2SeqLM.from_pretrained(model).eval()

    def choose(word: str, context: str, descriptions: Sequence[str]) -> int:
        question = tokenizer(sense_question(word, context, descriptions), return_tensors="pt")
        output = network.generate(**question, do_sample=False, max_new_tokens=128)
        answer = str(tokenizer.decode(output[0], skip_special_tokens=True)).strip()
        likeness = [difflib.SequenceMatcher(None, answer, description).ratio() for description in descriptions]
        return likeness.index(max(likeness))

    return choose


def open_wordnet(folder: str | Path | None = None) -> Any:
    """Open WordNet's nouns and verbs as an NLTK `WordNetCorpusReader`.

    Args:
        folder: contains data.noun and the other files. By default `$WNHOME/dict`, the folder of Debian's wordnet-base, or
            NLTK's own folders (`$NLTK_DATA`).

    Raises:
        ImportError: NLTK is not installed.
        FileNotFoundError: WordNet is not found; the message says how to get it.
    """
    try:
        import nltk
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError as error:
        raise ImportError("WordNet is read by NLTK. `pip install 'kinoclip[entities]'`.") from error

    class Reader(WordNetCorpusReader):
        """NLTK's reader for the files of Princeton and Debian, which lack two of NLTK's files."""

        def open(self, file: str) -> Any:
            if file != "lexnames":
                return super().open(file)
            # NLTK does not use the last column, the number of the part of speech
            return io.StringIO("".join(f"{line:02d}\t{name}\t0\n" for line, name in enumerate(_LEXNAMES.split())))

        def map_wn(self, version: str = "wordnet") -> None:
            """Skip the mapping to other versions: it needs index.sense, and only translations use it."""

    if folder is not None and not (Path(folder) / "data.noun").is_file():
        raise FileNotFoundError(f"{folder} does not contain WordNet: data.noun is missing. {_ADVICE}")
    home = os.environ.get("WNHOME")
    usual = [*([Path(home) / "dict", Path(home)] if home else []), DEBIAN_FOLDER]
    candidates = (
        [path for path in usual if (path / "data.noun").is_file()] if folder is None else [Path(folder).resolve()]
    )
    root: Any = None
    if candidates:
        root = str(candidates[0])
        nltk.data.path.append(str(candidates[0].parent))  # NLTK reads only from folders on its own list
    for name in ("corpora/wordnet", "corpora/wordnet.zip/wordnet/"):
        with contextlib.suppress(LookupError):
            root = root or nltk.data.find(name)
    if root is None:
        raise FileNotFoundError(f"WordNet is not installed. {_ADVICE}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The multilingual functions are not available")
        return Reader(root, None)


def noun_phrases(lexnames: str = "", folder: str | Path | None = None) -> list[str]:
    """Return the nouns in lexicographer files of WordNet, each once.

    Args:
        lexnames: comma-separated, such as "noun.artifact,noun.animal"; empty for those of all nouns.
        folder: see `open_wordnet`.

    Raises:
        FileNotFoundError, ImportError: see `open_wordnet`.
        ValueError: a name is not that of a file of nouns.
    """
    known = [name for name in _LEXNAMES.split() if name.startswith("noun.")]
    chosen = {name.strip() for name in lexnames.split(",")} if lexnames else set(known)
    if unknown := sorted(chosen - set(known)):
        raise ValueError(f"The files of WordNet's nouns are {', '.join(known)}; got {unknown[0]!r}.")
    phrases: dict[str, str] = {}  # CLIP reads texts in lower case
    for synset in open_wordnet(folder).all_synsets("n"):
        if synset.lexname() in chosen:
            for lemma in synset.lemma_names():
                phrase = lemma.replace("_", " ")
                phrases.setdefault(phrase.casefold(), phrase)
    return list(phrases.values())


def category_of(lexname: str) -> str | None:
    """Return the category of the entities in a lexicographer file of WordNet; None for what a frame cannot show.

    >>> category_of("noun.artifact"), category_of("verb.motion"), category_of("noun.feeling")
    ('object', 'motion', None)
    """
    kind, _, subject = lexname.partition(".")
    if kind == "verb" or lexname in ("noun.act", "noun.event"):
        return "motion"
    if lexname == "noun.body":
        return "body"
    if lexname in ("noun.location", "noun.phenomenon"):
        return "scene"
    objects = ("artifact", "food", "plant", "animal", "substance", "person", "communication", "object")
    return "object" if kind == "noun" and subject in objects else None
