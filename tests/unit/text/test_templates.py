import pytest

from kinoclip.text.templates import check_template, fill_template, find_template


def test_the_bike_template_has_no_full_stop_at_its_end():
    assert fill_template(find_template("bike"), "archery") == "This is a video about archery"


def test_the_text4vis_template_has_a_full_stop_at_its_end():
    assert fill_template(find_template("text4vis"), "archery") == "a video of a person archery."


def test_braces_in_a_label_are_kept():
    assert fill_template("a video of {}.", "a {} sign") == "a video of a {} sign."


@pytest.mark.parametrize(
    ("template", "places"), [("a video", 0), ("a {} of {}", 2), ("a video of {label}", 0), ("", 0), ("{0}", 0)]
)
def test_a_template_without_exactly_one_place_is_an_error(template, places):
    with pytest.raises(ValueError, match=f"holds {places} times"):
        check_template(template)


def test_an_unknown_template_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"no template 'clip'.*bike, text4vis"):
        find_template("clip")
