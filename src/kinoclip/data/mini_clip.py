"""A tiny CLIP that knows KinoShapes: its captions and its vocabulary; `kinoclip.embedded` tells where it lies.

`kinoclip.training.mini_clip` trains it. It serves tests, examples and the demo, where no large checkpoint is at hand.
"""

from collections import Counter
from itertools import pairwise

from transformers import CLIPTokenizer

from .kinoshapes import BACKGROUNDS, COLORS, SHAPES, VERBS

LABEL_TEMPLATES = (
    "This is a video about {}",
    "This is a video about {}.",
    "a video of {}",
    "a video of a {}.",
    "a photo of {}",
    "a photo of a {}.",
    "human action of {}",
    "a {}",
    "the {}",
    "{}",
)
EMPTY_TEMPLATES = (
    "an empty {} background",
    "nothing on a {} background",
    "a video of an empty {} background",
    "This is a video about an empty {} background",
)

# Words that labels and prompts often hold, so that they are not cut into single letters.
_COMMON_WORDS = """
the of and a to in is on that it with as for was by at be this are from or an have has not but what all were when we
there can their one two three time up down out over about into like look looking then these some other more new long
day get come made make making may part play playing person people man woman child girl boy someone human action
activity video photo picture clip frame image example showing shows doing does performing watching first last next
left right turn turning open opening close closing push pushing pull pulling put putting take taking throw throwing
catch catching drop dropping hold holding lift lifting hit hitting kick kicking run running walk walking jump jumping
climb climbing swim swimming ride riding drive driving dance dancing sing singing eat eating drink drinking cook
cooking cut cutting clean cleaning wash washing brush brushing read reading write writing draw drawing paint painting
talk talking laugh laughing cry smile hug kiss shake hand hands hair face head body foot water ball bike horse car
guitar piano drum music game sport soccer basketball baseball tennis golf hockey football skate skating ski skiing
surf surfing box boxing wrestling fencing archery diving bowling juggling yoga exercise weight press pull squat
dog cat bird fish tree flower house room door table chair book phone paper food bread fruit cake coffee beer
small large big little round moving still nothing empty object shape color background gray black orange pink brown
"""


def build_tokenizer(num_merges: int = 400) -> CLIPTokenizer:
    """Build the tokenizer: CLIP's byte pairs, learned from the captions of KinoShapes and common English words.

    Every other word falls apart into shorter pieces, in the end into bytes. "<|endoftext|>" has the highest id.

    Args:
        num_merges: how many pairs to learn; fewer where the words are used up.
    """
    # this module of Transformers takes long to import, and only training needs it
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = _learn_merges(_count_words(), num_merges)
    symbols = list(bytes_to_unicode().values())
    vocab = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocab)}
    # transformers takes pairs, though its signature asks for strings.
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=77)  # type: ignore[arg-type]


def _count_words() -> Counter[str]:
    """Count the words of the caption grammar a hundred times and the common ones once."""
    grammar = [*LABEL_TEMPLATES, *EMPTY_TEMPLATES, *COLORS, *SHAPES, *BACKGROUNDS, *VERBS]
    plain = " ".join(grammar).lower().replace("{}", "")
    counts = Counter(_COMMON_WORDS.split())
    for word in plain.replace(".", " . ").split():
        counts[word] += 100
    return counts


def _learn_merges(counts: Counter[str], num_merges: int) -> list[tuple[str, str]]:
    """Join the most frequent neighbors again and again; ties go to the pair that comes first in the alphabet."""
    words = {word: [*word[:-1], f"{word[-1]}</w>"] for word in counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _join(pieces, best) for word, pieces in words.items()}
    return merges


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair of neighbors."""
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
