"""Write the cards in hub_cards/: python examples/hub_cards/write_cards.py --output hub_cards.

A card for each checkpoint that the papers name (`checkpoints.toml`), with the architecture counted on the meta device and the printed
numbers; and the card of the embedded model, with the measured reports beside it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from kinoclip.hub.cards import REPORTS, Subject, base_model, make_card, model_card
from kinoclip.inference.profile import CLIP_SHAPES, profile_config
from kinoclip.methods import METHODS, Method, find_method
from kinoclip.methods.auto import PLAIN_CLIP_METHOD, find_model
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.names import EMBEDDED_RECOGNIZER
from kinoclip.modeling.video_processing import RecognizerVideoProcessor
from kinoclip.text.entities import CATEGORIES, load_corpus, select
from kinoclip.text.templates import TEMPLATES
from kinoclip.training.recipe import Recipe, load_recipe, recipe_names

_EMBEDDED_CARD = f"{PLAIN_CLIP_METHOD}-{EMBEDDED_RECOGNIZER}"
_EMBEDDED_TEXT = """
## About this model

The recognizer that comes with the package. It was trained on procedural clips of people (KinoFigures), names the 29 actions that are stored in
it, and is used in tests and examples. It knows no photographs and no other words.
"""


def planned_cards(folder: str | Path) -> Iterator[tuple[str, ModelCard]]:
    """Yield the name and the card of each checkpoint.

    Args:
        folder: with the reports of the embedded model, in `bike-mini-actions/reports/`.
    """
    for name, row in read_checkpoints().items():
        yield name, make_card(plan(name, row))
    yield _EMBEDDED_CARD, _embedded_card(Path(folder) / _EMBEDDED_CARD)


def read_checkpoints() -> dict[str, dict[str, Any]]:
    """Read `checkpoints.toml`."""
    return tomllib.loads(Path(__file__).with_name("checkpoints.toml").read_text(encoding="utf-8"))


def plan(name: str, row: dict[str, Any]) -> Subject:
    """Describe a checkpoint from its row of `checkpoints.toml`."""
    recipes = [load_recipe(one) for one in row["rows"]]
    method, clip = METHODS[recipes[0].method], base_model(recipes[0].start)
    shape = {} if clip is None else {"clip": _shape_of(clip)}
    settings = {**_corpus_size(method, recipes[0]), **recipes[0].model}
    config = profile_config(recipes[0].method, **shape, **settings)  # type: ignore[arg-type]  # clip is a text
    videos, templates = _sampling(method, config, recipes[0])
    return Subject(
        source=name,
        config=config,
        videos=videos,
        templates=templates if config.reads_text else (),
        recipes=recipes,
        notes=[
            "The weights are not published yet. Sizes and costs are counted from the architecture; nothing was measured.",
            *([row["note"]] if "note" in row else []),
            _way_there(name, recipes[0], clip, row.get("convert", False)),
        ],
        clip=clip,
    )


def _corpus_size(method: Method, recipe: Recipe) -> dict[str, int]:
    """Return the number of entities that a recipe's model is aligned with, which its cost depends on."""
    corpus = recipe.data_settings.corpus
    if corpus is None or "corpus_size" not in method.config.settings():
        return {}
    return {"corpus_size": len(select(load_corpus(corpus), recipe.model.get("corpus_categories", CATEGORIES)))}


def _sampling(
    method: Method, config: RecognizerConfig, recipe: Recipe
) -> tuple[RecognizerVideoProcessor, Sequence[str]]:
    """Return the video processor and the prompt templates of a recipe, without a tokenizer."""
    processor = method.processor.for_config(config, None)
    videos = processor.video_processor
    if recipe.data["sampling"] is not None:
        videos.sampling = recipe.data["sampling"]
    templates = recipe.data["templates"]
    if templates is None:
        inner = find_method(getattr(config, "recognizer_config", config))
        return videos, inner.processor.default_templates
    return videos, [TEMPLATES.get(templates, templates)] if isinstance(templates, str) else templates


def _shape_of(clip: str) -> str:
    """Return the name of the size of an OpenAI CLIP: openai/clip-vit-large-patch14-336 -> vitl14-336."""
    shape = clip.partition("clip-")[2].replace("vit-base-patch", "vitb").replace("vit-large-patch", "vitl")
    if shape not in CLIP_SHAPES:
        raise ValueError(f"The CLIP must be one of OpenAI's ({', '.join(CLIP_SHAPES)}), got {clip}.")
    return shape


def _way_there(name: str, recipe: Recipe, clip: str | None, convertible: bool) -> str:
    chained = recipe.start in recipe_names()
    command = "reproduce" if chained else "train"
    train = f"train them with `kinoclip {command} {recipe.name} --data DIR --output {name}`"
    train += f", which trains `{recipe.start}` first and leaves the models in `{name}/runs`" if chained else ""
    data = recipe.data_settings
    phrases = [f"`{file}`" for file in (data.attributes, data.test_attributes) if file is not None]
    needs = (
        f" It reads the attributes of the videos from {' and '.join(phrases)} (`data.attributes`)." if phrases else ""
    )
    if not convertible:
        return f"{train[0].upper()}{train[1:]}.{needs}"
    tower = f" --clip {clip}" if clip else ""
    return f"Convert the authors' file with `kinoclip convert {recipe.method} FILE{tower} --output {name}`, or {train}.{needs}"


def _embedded_card(folder: Path) -> ModelCard:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / folder.name
        shutil.copytree(find_model(EMBEDDED_RECOGNIZER), place)
        card = model_card(place, reports=sorted((folder / REPORTS).glob("*.json")), license="apache-2.0")
    card.text += _EMBEDDED_TEXT
    return card


def main() -> None:
    """Write all cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("hub_cards"))
    output = parser.parse_args().output
    for name, card in planned_cards(output):
        (output / name).mkdir(parents=True, exist_ok=True)
        card.save(output / name / "README.md")


if __name__ == "__main__":
    main()
