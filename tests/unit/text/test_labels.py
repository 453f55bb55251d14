import pytest

from kinoclip.text.labels import label_set, read_labels, spell_out


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


def test_the_words_style_spells_out_the_classes_of_ucf101():
    assert label_set("ucf101", "words")[:2] == ["apply eye makeup", "apply lipstick"]


def test_the_classes_of_activitynet_are_in_alphabetical_order():
    labels = label_set("activitynet200")

    # capitals first, so that BMX comes before Baking cookies, as in the lists of the papers
    assert labels == sorted(labels)


@pytest.mark.parametrize("name", ["ssv1", "ssv2"])
def test_the_classes_of_something_something_are_in_alphabetical_order(name):
    labels = label_set(name)

    assert labels == sorted(labels)


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


@pytest.mark.parametrize("name", ["kinetics400", "hmdb51", "ssv1", "ssv2"])
def test_the_words_style_leaves_labels_of_words_as_they_are(name):
    assert label_set(name, "words") == label_set(name)


def test_an_unknown_label_set_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"'imagenet'.*activitynet200, hmdb51, kinetics400, ssv1, ssv2, ucf101"):
        label_set("imagenet")


def test_an_unknown_style_is_an_error():
    with pytest.raises(ValueError, match="no label style 'upper'"):
        label_set("ucf101", "upper")


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

    assert read_labels(path) == ["diving", "rock climbing"]


def test_a_number_that_is_not_the_line_number_belongs_to_the_label(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1 diving\n3 pushups\n")

    assert read_labels(path) == ["1 diving", "3 pushups"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "", "holds no label"),
        ("labels.txt", "diving\n\narchery\n", "line 2: the name is empty"),
        ("labels.txt", "diving\narchery\ndiving\n", "line 3: 'diving' was already given on line 1"),
        ("labels.txt", "1 diving\n2 diving\n", "line 2: 'diving' was already given on line 1"),
        ("labels.csv", "diving\narchery\n", "line 1: the header is .* 'id,name'"),
        ("labels.csv", "", "line 1: the header"),
        ("labels.csv", "id,name\n", "holds no label"),
        ("labels.csv", "id,name\n0,diving\n1,\n", "line 3: the name is empty"),
        ("labels.csv", "id,name\n0,diving\nx,archery\n", "line 3: the id is 'x'"),
        ("labels.csv", "id,name\n0,diving\n0,archery\n", "line 3: id 0 was given on line 2"),
        ("labels.csv", "id,name\n0,diving\n1,diving\n", "line 3: 'diving' was already given on line 2"),
        ("labels.csv", "id,name\n1,diving\n2,archery\n", "2 names, but no id 0. Number the classes from 0 to 1"),
        ("labels.json", "[\n1,\n", "line 3: not valid JSON"),
        ("labels.json", '"diving"', "holds a str"),
        ("labels.json", '["diving", 2]', "entry 2: 2 is not a name"),
        ("labels.json", '["diving", " "]', "entry 2: the name is empty"),
        ("labels.json", '{"0": "diving", "2": "archery"}', "2 names, but no id 1"),
    ],
)
def test_a_bad_file_of_labels_is_an_error_that_says_where(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        read_labels(path)


def test_a_missing_file_of_labels_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt: there is no such file of labels"):
        read_labels(tmp_path / "none.txt")
