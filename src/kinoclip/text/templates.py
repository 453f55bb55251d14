"""Prompt templates: the sentence around a label."""

from collections.abc import Mapping
from types import MappingProxyType

# Source: official BIKE and Text4Vis code. BIKE's ends without a full stop, for videos and for attributes.
TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "bike": "This is a video about {}",
        "text4vis": "a video of a person {}.",
    }
)

# Source: official ActionCLIP `utils/Text_Prompt.py`, in its order.
ACTIONCLIP_TEMPLATES: tuple[str, ...] = (
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)


def find_template(name: str) -> str:
    """The template of a method, by name."""
    if name not in TEMPLATES:
        raise ValueError(
            f"There is no template {name!r}. Use one of {', '.join(TEMPLATES)}, or write your own with one {{}}."
        )
    return TEMPLATES[name]


def check_template(template: str) -> None:
    """Make sure that a template has exactly one place for the label.

    Raises:
        ValueError: if it has none, several, or a named one.
    """
    places = template.count("{}")
    if places != 1:
        raise ValueError(
            f"The template {template!r} holds {places} times {{}}, where the label goes. Write it exactly once, "
            "as in 'a video of a person {}.'"
        )


def fill_template(template: str, label: str) -> str:
    """Put the label into the template. Braces in the label are kept as they are.

    >>> fill_template("a video of a person {}.", "juggling balls")
    'a video of a person juggling balls.'
    """
    check_template(template)
    return template.replace("{}", label)
