"""Prompt templates: the sentence around a label."""

from collections.abc import Mapping
from types import MappingProxyType

# Source: official BIKE and Text4Vis code. BIKE's ends without a full stop, for videos and for attributes.
TEMPLATES: Mapping[str, str] = MappingProxyType(
    {"bike": "This is a video about {}", "text4vis": "a video of a person {}."}
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


def check_template(template: str) -> None:
    """Raise a `ValueError` unless a template contains {} exactly once."""
    count = template.count("{}")
    if count != 1:
        raise ValueError(
            f"A template must contain {{}} exactly once, where the label goes, as in 'a video of a person {{}}.'; "
            f"{template!r} contains it {count} times."
        )


def fill_template(template: str, label: str) -> str:
    """Insert the label into the template. Braces in the label are kept.

    >>> fill_template("a video of a person {}.", "juggling balls")
    'a video of a person juggling balls.'
    """
    check_template(template)
    return template.replace("{}", label)
