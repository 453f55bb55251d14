import pytest

from kinoclip.text.templates import TEMPLATES, check_template, fill_template


def test_templates_are_filled_as_in_the_official_code():
    assert fill_template(TEMPLATES["bike"], "archery") == "This is a video about archery"
    assert fill_template(TEMPLATES["text4vis"], "archery") == "a video of a person archery."
    assert fill_template("a video of {}.", "a {} sign") == "a video of a {} sign."


@pytest.mark.parametrize(
    ("template", "count"), [("a video", 0), ("a {} of {}", 2), ("a video of {label}", 0), ("", 0), ("{0}", 0)]
)
def test_a_template_without_exactly_one_placeholder_is_refused(template, count):
    with pytest.raises(ValueError, match=f"contains it {count} times"):
        check_template(template)
