"""What recipes name exists, and what they quote are numbers. Each test gives the rows for which that is not so."""

from typing import get_args

from kinoclip.data.catalog import catalog
from kinoclip.evaluation.protocols import PROTOCOLS
from kinoclip.text.chinese import CHINESE_SETS
from kinoclip.text.descriptions import describe_labels, label_descriptions
from kinoclip.text.entities import CORPORA
from kinoclip.text.labels import LABEL_SETS
from kinoclip.video.sampling import SamplingRule

from .rows import RECIPES, labels_of

CLIPS = {f"openai/clip-vit-{size}" for size in ("base-patch32", "base-patch16", "large-patch14", "large-patch14-336")}
METRICS = {"top1", "top5", "mean_class_accuracy", "map"}
# the methods of the papers, each with a file of its own
METHODS = {"bike", "alt", "sllm", "dstpr", "text4vis", "actionclip", "tam"}

DATA = {name: recipe.data_settings for name, recipe in RECIPES.items()}


def _reads_clip(recipe):
    return "tam" not in (recipe.method, recipe.model.get("recognizer"))


def test_every_method_has_a_file_of_rows():
    assert {name.partition("/")[0] for name in RECIPES} >= METHODS


def test_every_row_has_a_title_of_its_own():
    titles = [(name.partition("/")[0], recipe.table, recipe.title) for name, recipe in RECIPES.items()]
    assert [title for title in titles if titles.count(title) > 1 or not title[2]] == []


def test_what_a_paper_printed_is_numbers_with_a_table_to_look_them_up():
    values = {f"{name} {key}": value for name, recipe in RECIPES.items() for key, value in recipe.paper.items()}
    assert {key: value for key, value in values.items() if type(value) not in (int, float)} == {}
    assert [name for name, recipe in RECIPES.items() if recipe.paper and not recipe.table] == []


def test_accuracies_are_percentages():
    values = {f"{name} {key}": value for name, recipe in RECIPES.items() for key, value in recipe.paper.items()}
    shares = {key: value for key, value in values.items() if key.split()[1].startswith(("top", "half_top", "map"))}
    assert {key: value for key, value in shares.items() if not 0 < value < 100} == {}


def test_every_data_set_is_known_and_has_the_fold():
    known = {**{name: facts.folds for name, facts in catalog().items()}, "kinoshapes": 1, "": 1}
    wrong = {name: recipe.dataset for name, recipe in RECIPES.items() if recipe.dataset not in known}
    assert wrong == {}
    assert [name for name, data in DATA.items() if data.fold > known[RECIPES[name].dataset]] == []


def test_every_row_is_measured_by_known_protocols_and_metrics():
    rules = {name: recipe.evaluation_settings for name, recipe in RECIPES.items()}
    named = {name: {one.protocol, one.validation_protocol} for name, one in rules.items()}
    assert {name: one for name, one in named.items() if not one <= set(PROTOCOLS)} == {}
    assert {name: one.metric for name, one in rules.items() if one.metric not in METRICS} == {}


def test_every_row_starts_from_a_clip_or_from_another_row_and_a_resnet_from_nothing():
    known = {*CLIPS, *RECIPES, "mini"}
    starts = {name: recipe.start for name, recipe in RECIPES.items()}
    wrong = {
        n: start for n, start in starts.items() if start not in (known if _reads_clip(RECIPES[n]) else {*RECIPES, ""})
    }
    assert wrong == {}


def test_no_chain_of_rows_leads_back_to_itself():
    chains = {name: [name] for name in RECIPES}
    for chain in chains.values():
        while (start := RECIPES[chain[-1]].start) in RECIPES and len(chain) < 9:
            chain.append(start)
    assert {name: chain for name, chain in chains.items() if len(chain) == 9} == {}


def test_the_texts_of_every_row_are_packaged_and_those_of_its_data_set():
    others = {*LABEL_SETS, None}
    named = {name: {data.corpus, data.chinese_labels, data.descriptions} for name, data in DATA.items()}
    assert {name: texts for name, texts in named.items() if not texts <= {*CORPORA, *CHINESE_SETS, *others}} == {}
    chinese = {name: data.chinese_labels for name, data in DATA.items() if data.chinese_clip}
    assert {name: labels for name, labels in chinese.items() if labels != RECIPES[name].dataset} == {}


def test_descriptions_cover_the_classes_of_the_data_set():
    described = {RECIPES[name].dataset: data.descriptions for name, data in DATA.items() if data.descriptions}
    labels = {name: labels_of(recipe) for name, recipe in RECIPES.items() if DATA[name].descriptions}
    texts = {n: describe_labels(labels[n], label_descriptions(described[RECIPES[n].dataset])) for n in labels}
    assert {name for name, found in texts.items() if len(found) != 3} == set()


def test_frames_are_sampled_by_known_rules():
    assert {
        name: data.sampling for name, data in DATA.items() if data.sampling not in (*get_args(SamplingRule), None)
    } == {}


def test_few_shots_are_repeated_to_the_length_of_an_epoch_at_most():
    few = {
        name: data
        for name, data in DATA.items()
        if data.repeat > 1 and not data.segments and RECIPES[name].dataset in catalog()
    }
    facts = {name: catalog()[RECIPES[name].dataset] for name in few}
    epochs = {
        name: facts[name].official_size("train", data.fold) // (data.shots * facts[name].num_classes)
        for name, data in few.items()
    }
    assert {name: (data.repeat, epochs[name]) for name, data in few.items() if data.repeat != epochs[name]} == {}
