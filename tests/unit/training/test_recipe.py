from dataclasses import replace

import pytest

from kinoclip.methods.bike import BikeConfig
from kinoclip.methods.sllm import SllmConfig
from kinoclip.methods.text4vis import Text4VisConfig
from kinoclip.training.recipe import Recipe, find_recipes, load_recipe, recipe_names

ROW = """
[defaults]
method = "bike"
start = "mini"
training = { objective = "captions", epochs = 3 }
[default]
title = "mine"
note = "measured once"
"""


def test_a_row_default_goes_by_the_name_of_its_file():
    assert {"finetune", "kinoshapes/bike"} <= set(recipe_names())
    assert load_recipe("finetune").name == "finetune"


def test_a_row_stands_over_the_defaults_of_its_file():
    recipe = load_recipe("bike/t6a-vcs")
    assert (recipe.method, recipe.training.batch_size, recipe.model["temporal_head"]) == ("bike", 256, "none")
    assert recipe.paper == {"top1": 78.5}


def test_a_file_of_ones_own_gives_its_default_row(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(ROW)
    recipe = load_recipe(path)
    assert (recipe.name, recipe.title, recipe.training.epochs) == ("mine", "mine", 3)
    assert recipe.caveats == ("measured once",)


def test_a_recipe_written_out_and_read_again_is_the_same():
    recipe = load_recipe("kinoshapes/sllm").with_settings({"runs.seeds": 3, "training.groups.decoder": 8e-4})
    assert (recipe.runs.seeds, recipe.training.groups) == (3, {"decoder": 8e-4})
    assert Recipe.from_dict(recipe.name, recipe.to_dict()) == recipe


def test_a_setting_is_changed_by_its_dotted_name_and_the_recipe_stays_as_it_was():
    recipe = load_recipe("kinoshapes/bike")
    changed = recipe.with_settings({"training.lora.rank": 4, "model.num_frames": 6, "start": "elsewhere"})
    assert (changed.training.lora.rank, changed.model["num_frames"], changed.start) == (4, 6, "elsewhere")
    assert (recipe.training.lora.rank, recipe.model["num_frames"], recipe.start) == (0, 4, "mini")


ERRORS = {
    "an unknown name": (
        {"training.epoch": 2},
        r"no setting 'training.epoch'. The nearest known one is 'training.epochs'",
    ),
    "a name without its section": ({"epochs": 2}, r"nearest known one is 'training.epochs'"),
    "an unknown model field": (
        {"model.num_fames": 2},
        r"'num_fames' is not a setting of BikeConfig. Settings: .*num_frames",
    ),
    "a value of another kind": ({"training.epochs": "2"}, r"\[training\]: Field 'epochs' expected int, got str"),
    "a value that is not offered": ({"data.augmentation": "flip"}, r"expected one of \('none', 'resized_crop'"),
    "a model value that is not offered": (
        {"model.temporal_head": "rnn"},
        r"expected one of \('transformer', 'none'\)",
    ),
    "micro-batches that do not fit": (
        {"training.batch_size": 6, "training.accumulation": 4},
        "batch_size must be divisible by accumulation, got 6 and 4",
    ),
    "one beta": ({"training.betas": [0.9]}, "betas must be two numbers"),
    "no epoch": ({"training.epochs": -1}, "epochs must be at least 0, got -1"),
    "no run": ({"runs.seeds": 0}, r"\[runs\]: seeds must be at least 1, got 0"),
    "an unknown protocol": (
        {"evaluation.validation_protocol": "bike_view"},
        r"evaluation.validation_protocol: The protocol must be one of single_view, .*, got 'bike_view'",
    ),
    "class lists beside drawn classes": (
        {"evaluation.protocol": "halves", "evaluation.class_lists": ["base"]},
        r"'halves' scores its own sets of classes. Leave evaluation.class_lists out",
    ),
    "attributes that the protocol does not read": (
        {"data.attributes": "phrases.json", "evaluation.protocol": "bike_single_view"},
        r"evaluation.protocol = 'bike_single_view' does not read attributes. Leave data.attributes out, or use",
    ),
    "a protocol of attributes without any": (
        {"evaluation.validation_protocol": "bike_attributes"},
        r"evaluation.validation_protocol = 'bike_attributes' needs attributes. Set data.attributes",
    ),
    "a gain over itself": (
        {"evaluation.gain_over": "kinoshapes/bike"},
        "mean_of and gain_over must name other recipes",
    ),
    "runs of a mean": (
        {"evaluation.mean_of": ["bike/t3"], "runs.seeds": 2},
        r"a mean of other recipes is not measured itself. Leave out runs",
    ),
    "mixed captions": ({"data.mixup": 0.8}, 'mixup needs training.objective = "candidates"'),
    "a contrast with all classes": ({"training.objective": "candidates"}, 'Set model.loss = "cross_entropy"'),
}


@pytest.mark.parametrize(("settings", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_setting_is_refused_with(settings, message):
    with pytest.raises(ValueError, match=message):
        load_recipe("kinoshapes/bike").with_settings(settings)


def test_a_strict_recipe_has_the_strict_settings_of_its_method_under_its_own(monkeypatch):
    monkeypatch.setattr(BikeConfig, "strict_settings", {"normalize_saliency": False, "temporal_layers": 3})
    recipe = load_recipe("kinoshapes/bike")
    assert recipe.strict().model == {"num_frames": 4, "temporal_layers": 1, "normalize_saliency": False}
    assert recipe.strict().training == recipe.training


def test_a_strict_recipe_of_sllm_has_those_of_what_it_wraps_too(monkeypatch):
    monkeypatch.setattr(Text4VisConfig, "strict_settings", {"temporal_head": "none"})
    monkeypatch.setattr(SllmConfig, "strict_settings", {"teacher": "frozen"})
    strict = load_recipe("kinoshapes/sllm").strict().model
    assert (strict["temporal_head"], strict["teacher"], strict["restorer_layers"]) == ("none", "frozen", 1)


def test_labels_are_not_smoothed_twice():
    content = {"method": "alt", "data": {"label_smoothing": 0.1}}
    with pytest.raises(ValueError, match=r"the loss of alt smooths labels itself \(model.label_smoothing = 0.1\)"):
        Recipe.from_dict("alt", content)


def test_an_unknown_section_and_method_are_refused():
    with pytest.raises(ValueError, match=r"unknown setting 'trainig'. The nearest known one is 'training'"):
        Recipe.from_dict("x", {"method": "bike", "trainig": {}})
    with pytest.raises(ValueError, match=r"method must be one of .*, got 'bikes'"):
        Recipe.from_dict("x", {"method": "bikes"})


def test_a_row_a_table_and_a_file_name_recipes_and_each_is_found_once():
    assert find_recipes(["bike/t6a-vcs"]) == ["bike/t6a-vcs"]
    others = ["bike/t6a-mean", "bike/t6a-transformer", "bike/t6a-frozen"]
    assert find_recipes(["bike/t6a-vcs", "bike/Table 6a"]) == ["bike/t6a-vcs", *others]
    assert find_recipes(["tam"]) == [name for name in recipe_names() if name.startswith("tam/")]
    assert find_recipes(["all"]) == recipe_names()


@pytest.mark.parametrize(
    ("printed", "table", "matches"),
    [
        ("Tables 3 to 5", "Table 4", True),
        ("Tables 3 to 5", "Table 6", False),
        ("Tables 6d and 6e", "table 6e", True),
        ("Tables 2, 5 and 7", "Table 5", True),
        ("Table 1, README", "Table 1", True),
        ("Figure 5a", "Table 5a", False),
        ("Figure 5a", "figure 5a", True),
        ("README", "readme", True),
    ],
)
def test_a_row_belongs_to_every_table_that_prints_it(printed, table, matches, monkeypatch):
    row = replace(load_recipe("tam/k400-r50-8f"), table=printed)
    monkeypatch.setattr("kinoclip.training.recipe.recipe_names", lambda: ["tam/k400-r50-8f"])
    monkeypatch.setattr("kinoclip.training.recipe.load_recipe", lambda name: row)
    if matches:
        assert find_recipes([f"tam/{table}"]) == ["tam/k400-r50-8f"]
    else:
        with pytest.raises(ValueError, match=rf"tam has no row of '{table}'. Its rows are of: {printed}."):
            find_recipes([f"tam/{table}"])


def test_an_unknown_row_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"Unknown recipe 'bike/t6a-vsc'. The nearest known one is 'bike/t6a-vcs'"):
        find_recipes(["bike/t6a-vsc"])
