import pytest

from kinoclip.text.labels import check_labels, label_set, load_names, read_labels, spell_out


@pytest.mark.parametrize(
    ("name", "size", "first", "last"),
    [
        ("kinetics400", 400, "abseiling", "zumba"),
        ("activitynet200", 200, "Applying sunscreen", "Zumba"),
        ("hmdb51", 51, "brush hair", "wave"),
        ("ucf101", 101, "ApplyEyeMakeup", "YoYo"),
        ("ssv1", 174, "Approaching something with your camera", "Wiping something off of something"),
        ("ssv2", 174, "Approaching something with your camera", "Wiping something off of something"),
    ],
)
def test_a_packaged_label_set_has_the_classes_of_its_dataset(name, size, first, last):
    labels = label_set(name)
    assert len(labels) == len(set(labels)) == size
    assert (labels[0], labels[-1]) == (first, last)
    # capitals first, so that BMX comes before Baking cookies, as in the lists of the papers
    assert labels == sorted(labels) or name in ("ucf101", "kinetics400")
    if name not in ("ucf101", "activitynet200"):
        assert load_names(name) == labels
    assert load_names("ucf101")[:2] == ["apply eye makeup", "apply lipstick"]


@pytest.mark.parametrize(
    ("class_id", "label"),
    [
        (13, "Failing to put something into something because something does not fit"),
        (67, "Pretending to open something without actually opening it"),
        (140, "Spinning something that quickly stops spinning"),
    ],
)
def test_a_class_of_something_something_v2_has_its_official_id(class_id, label):
    assert label_set("ssv2")[class_id] == label


def test_an_unknown_label_set_is_refused():
    with pytest.raises(ValueError, match=r"activitynet200, hmdb51, kinetics400, ssv1, ssv2, ucf101.*'imagenet'"):
        label_set("imagenet")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("YoYo", "yo yo"),
        ("Archery", "archery"),
        ("WatchTVShow", "watch tv show"),
        ("brush_hair", "brush hair"),
        ("Brush_Hair", "brush hair"),
        ("passing American football (in game)", "passing American football (in game)"),
    ],
)
def test_a_label_in_one_word_is_spelled_out(label, words):
    assert spell_out(label) == words


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "diving\nrock climbing\n"),
        ("labels.txt", "\ufeffdiving\r\n rock climbing \r\n"),
        ("labels.txt", "1 diving\n2 rock climbing\n"),
        ("labels.txt", "c000 diving\nc001 rock climbing\n"),
        ("labels", "diving\nrock climbing"),
        ("labels.csv", "id,name\n0,diving\n1,rock climbing\n"),
        ("labels.csv", "name,id\nrock climbing,1\ndiving,0\n"),
        ("labels.csv", 'id, name\n0, "diving"\n1, "rock climbing"\n'),
        ("labels.json", '["diving", "rock climbing"]'),
        ("labels.JSON", '{"1": "rock climbing", "0": "diving"}'),
    ],
)
def test_labels_are_read_in_class_order_from_every_format(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert load_names(path) == read_labels(path) == ["diving", "rock climbing"]


def test_a_number_that_is_not_the_line_number_belongs_to_the_label(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1 diving\n3 pushups\n")
    assert read_labels(path) == ["1 diving", "3 pushups"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "", "contains no label"),
        ("labels.txt", "diving\n\narchery\n\ndiving\n", "line 5: .diving. was already given on line 1"),
        ("labels.txt", "diving\narchery\ndiving\n", "line 3: 'diving' was already given on line 1"),
        ("labels.txt", "1 diving\n2 diving\n", "line 2: 'diving' was already given on line 1"),
        ("labels.txt", b"\xff\xfe", "not UTF-8"),
        ("labels.csv", "diving\narchery\n", "line 1: the header must be 'id,name'"),
        ("labels.csv", "id,name\n", "contains no label"),
        ("labels.csv", "id,name\n0,diving\n1,\n", "line 3: the name is empty"),
        ("labels.csv", "id,name\n0,diving\nx,archery\n", "line 3: the id must be .*, got 'x'"),
        ("labels.csv", "id,name\n0,diving\n0,archery\n", "line 3: id 0 was already given on line 2"),
        ("labels.csv", "id,name\n0,diving\n1,diving\n", "line 3: 'diving' was already given on line 2"),
        ("labels.csv", "id,name\n1,diving\n2,archery\n", "id 0 is missing. Number the classes from 0 to 1"),
        ("labels.json", "[\n1,\n", "line 3: not valid JSON"),
        ("labels.json", "[" * 100_000, "nested too deeply"),
        ("labels.json", '"diving"', "got a str"),
        ("labels.json", '["diving", 2]', "entry 2: a name must be a string, got 2"),
        ("labels.json", '["diving", " "]', "entry 2: the name is empty"),
        ("labels.json", '{"0": "diving", "2": "archery"}', "id 1 is missing"),
    ],
)
def test_a_bad_file_of_labels_is_refused_with_the_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_labels(path)


def test_a_missing_file_of_labels_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"The file of labels .*none\.txt does not exist"):
        read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "Labels are missing"),
        (["a", " "], "Label 2 of 2"),
        (["a", "b", "a"], "given twice"),
        (["a", 3], "Label 2 of 2"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_an_error(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels)
