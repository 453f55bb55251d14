import json

import pytest

from kinoclip.text.chinese import CHINESE_SETS, NAME_SETS, chinese_texts, load_chinese_labels, load_second_names
from kinoclip.text.labels import label_set, match_key

DIVING = {"id": 0, "en": "diving", "zh": "跳水"}
ARCHERY = {"id": 1, "en": "archery", "zh": "射箭"}


@pytest.fixture
def write(tmp_path):
    def write_dictionary(content):
        path = tmp_path / "chinese.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
        return path

    return write_dictionary


def classes(*entries, **fields):
    return {"dataset": "mine", "version": 1, "classes": list(entries), **fields}


@pytest.mark.parametrize("name", CHINESE_SETS)
def test_a_packaged_dictionary_translates_every_class_in_class_order(name):
    assert list(load_chinese_labels(name)) == label_set(name)


@pytest.mark.parametrize(
    ("name", "label", "word"),
    [
        ("kinetics400", "bowling", "打保龄球"),
        ("kinetics400", "hurling (sport)", "打爱尔兰曲棍球"),
        ("kinetics400", "vault", "体操跳马"),
        ("kinetics400", "zumba", "跳尊巴"),
        ("ucf101", "CricketBowling", "板球投球"),
        ("ucf101", "YoYo", "玩悠悠球"),
        ("hmdb51", "shoot bow", "射箭"),
        ("hmdb51", "dribble", "运球"),
        ("hmdb51", "wave", "挥手"),
        ("ssv2", "Pushing something from left to right", "把某物从左向右推"),
        ("ssv1", "Wiping something off of something", "把某物从另一物上擦掉"),
    ],
)
def test_a_label_is_translated_by_the_word_for_the_action(name, label, word):
    assert load_chinese_labels(name)[label][0] == word


def test_the_templates_of_something_something_keep_a_slot_for_the_object():
    without = [label for label, words in load_chinese_labels("ssv2").items() if "某" not in words[0]]
    assert without == ["Taking one of many similar things on the table"]


@pytest.mark.parametrize(
    "content",
    [
        classes(DIVING, ARCHERY),
        {"diving": "跳水", "archery": "射箭"},
        {"diving": ["跳水"], "archery": [" 射箭 "]},
        "\ufeff" + json.dumps({"diving": "跳水", "archery": "射箭"}),
    ],
)
def test_a_dictionary_is_read_from_every_format(write, content):
    assert load_chinese_labels(write(content)) == {"diving": ["跳水"], "archery": ["射箭"]}


def test_a_label_is_translated_under_every_spelling():
    ucf101 = load_chinese_labels("ucf101")
    for label in ("ApplyEyeMakeup", "apply eye makeup", "apply_eye_makeup"):
        assert chinese_texts([label], ucf101) == [["画眼妆"]]
    assert chinese_texts(["打太极"], {}) == [["打太极"]]


def test_every_template_is_filled_with_every_label():
    chinese = {"diving": ["跳水"], "archery": ["射箭"]}
    texts = chinese_texts(["archery", "diving"], chinese, ["{}", "一段{}的视频"])
    assert texts == [["射箭", "跳水"], ["一段射箭的视频", "一段跳水的视频"]]


def test_variants_of_all_labels_weigh_the_same_in_the_average_over_rows():
    chinese = {"diving": ["跳水"], "archery": ["射箭", "拉弓"], "running": ["跑步", "奔跑", "跑"]}
    texts = chinese_texts(["diving", "archery", "running"], chinese)
    # 6 rows, the least common multiple of 1, 2 and 3 variants
    archery = [row[1] for row in texts]
    running = [row[2] for row in texts]
    assert [row[0] for row in texts] == ["跳水"] * 6
    assert (archery.count("射箭"), archery.count("拉弓")) == (3, 3)
    assert (running.count("跑步"), running.count("奔跑"), running.count("跑")) == (2, 2, 2)


def test_a_label_without_a_chinese_word_is_refused():
    with pytest.raises(KeyError, match="archery"):
        chinese_texts(["diving", "archery"], {"diving": ["跳水"]})


def test_a_mapping_is_checked_like_a_file():
    assert load_chinese_labels({"diving": ("跳水",)}) == {"diving": ["跳水"]}
    with pytest.raises(ValueError, match="The Chinese labels: 'diving' is translated by 'dive'"):
        load_chinese_labels({"diving": "dive"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", "must hold an object from English to Chinese"),
        ("[]", "must hold an object from English to Chinese"),
        ('{"diving": "跳水", "diving": "潜水"}', "'diving' is given twice"),
        ({"diving": ""}, "'diving' is translated by '', which contains no Chinese character"),
        ({"diving": "tiao shui"}, "'diving' is translated by 'tiao shui', which contains no Chinese character"),
        ({"diving": []}, r"'diving' needs a Chinese word or a list of variants, got \[\]"),
        ({"diving": 3}, r"'diving' needs a Chinese word or a list of variants, got 3"),
        ({"diving": ["跳水", "跳水"]}, "'diving' has a variant twice"),
        ({" ": "跳水"}, "the English label must be the name of a class, got ' '"),
        (
            {"diving": "跳水", "archery": ["射箭", "跳水"]},
            "'跳水' translates both 'diving' and 'archery'",
        ),
        (classes(DIVING, version=2), "this package reads version 1, got version 2"),
        (classes(), "'classes' must be a list"),
        (classes(ARCHERY), r"class 0: the id must be 0, got 1"),
        (classes(DIVING, {"id": 1, "en": "archery"}), "class 1: .* needs 'id', 'en' and 'zh'"),
        (classes(DIVING, {"id": 1, "en": "diving", "zh": "潜水"}), "class 1: 'diving' was already given"),
        (classes(DIVING, dataset="hmdb51"), "1 classes, but hmdb51 has 51. Translate each"),
    ],
)
def test_a_bad_dictionary_is_refused_with_the_reason(write, content, message):
    with pytest.raises(ValueError, match=message):
        load_chinese_labels(write(content))


def test_a_dictionary_of_a_known_dataset_has_its_classes_in_any_spelling(write):
    entries = [
        {"id": number, "en": label.replace(" ", "_").title(), "zh": words}
        for number, (label, words) in enumerate(load_chinese_labels("hmdb51").items())
    ]
    assert load_chinese_labels(write(classes(*entries, dataset="hmdb51")))["Brush_Hair"] == ["梳头发"]
    entries[50]["en"] = "salute"
    with pytest.raises(ValueError, match="class 50: 'salute', but this class of hmdb51 is 'wave'"):
        load_chinese_labels(write(classes(*entries, dataset="hmdb51")))


def test_a_missing_file_of_chinese_labels_is_refused_with_the_packaged_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hmdb51, kinetics400, ssv1.*none\.json does not exist"):
        load_chinese_labels(tmp_path / "none.json")


@pytest.mark.parametrize("name", sorted(set(NAME_SETS) - set(CHINESE_SETS)))
def test_packaged_paraphrases_are_second_english_names_of_all_classes(name):
    language, names = load_second_names(name)
    labels = label_set(name.removesuffix("/english"))
    assert (language, list(names)) == ("English", labels)
    assert not [label for label, (paraphrase,) in names.items() if match_key(label) == match_key(paraphrase)]
