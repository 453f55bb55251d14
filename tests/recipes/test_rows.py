"""What recipes name exists, and what they quote are numbers. Each test collects the rows for which that is not so."""

from importlib.resources import files
from typing import get_args

from kinoclip.data.catalog import catalog
from kinoclip.data.files import split_name
from kinoclip.evaluation.class_lists import CLASS_LISTS
from kinoclip.kinoshapes.benchmarks import BENCHMARKS
from kinoclip.text.chinese import NAME_SETS
from kinoclip.text.descriptions import describe_labels, label_descriptions
from kinoclip.text.entities import CORPORA, EXTENDED
from kinoclip.text.labels import LABEL_SETS
from kinoclip.video.sampling import SamplingRule

from .rows import RECIPES

CLIPS = {f"openai/clip-vit-{size}" for size in ("base-patch32", "base-patch16", "large-patch14", "large-patch14-336")}
METRICS = {"top1", "top5", "mean_class_accuracy", "map"}
# what `kinoclip reproduce` measures, beside the accuracy of each class list
ACCURACIES = {"top1", "top5", "map", "running_map", "half_top1_mean", "half_top1_std", "top1_mean", "top1_std"}
ACCURACIES |= {f"list_top{k}_{kind}" for k in (1, 5) for kind in ("mean", "std")} | {"top1_gain"}
COSTS = {"gflops", "params_millions", "trainable_millions", "training_videos_per_second", "videos_per_second"}
COSTS |= {"minutes", "memory_mb"}
SIMILARITIES = {"restored_cosine", "label_similarity"}
# the methods of the papers, each with a file of its own
METHODS = {"bike", "alt", "sllm", "dstpr", "text4vis", "actionclip", "tam", "xclip"}

DATA = {name: recipe.data_settings for name, recipe in RECIPES.items()}
RULES = {name: recipe.evaluation_settings for name, recipe in RECIPES.items()}


def _reads_clip(recipe):
    return "tam" not in (recipe.method, recipe.model.get("recognizer"))


def test_every_method_has_a_file_of_rows():
    assert {name.partition("/")[0] for name in RECIPES} >= METHODS


def test_every_row_has_a_title_of_its_own():
    titles = [(name.partition("/")[0], recipe.table, recipe.title) for name, recipe in RECIPES.items()]
    assert [title for title in titles if titles.count(title) > 1 or not title[2]] == []


def test_the_four_papers_fit_on_a_few_pages():
    folder = files("kinoclip.training") / "recipes"
    lines = {
        name: len((folder / f"{name}.toml").read_text().splitlines()) for name in ("bike", "alt", "sllm", "dstpr")
    }
    assert sum(lines.values()) < 1600, lines


def test_what_a_paper_printed_is_numbers_with_a_table_to_look_them_up():
    values = {f"{name} {key}": value for name, recipe in RECIPES.items() for key, value in recipe.paper.items()}
    assert {key: value for key, value in values.items() if type(value) not in (int, float)} == {}
    assert [name for name, recipe in RECIPES.items() if recipe.paper and not recipe.table] == []


def test_printed_numbers_are_named_as_they_are_measured():
    known = {*ACCURACIES, *COSTS, *SIMILARITIES}
    lists = {name: {f"{one}_top1" for one in recipe.evaluation["class_lists"]} for name, recipe in RECIPES.items()}
    wrong = {name: set(recipe.paper) - known - lists[name] for name, recipe in RECIPES.items()}
    assert {name: keys for name, keys in wrong.items() if keys} == {}


def test_accuracies_are_percentages_and_similarities_are_not():
    values = {f"{name} {key}": value for name, recipe in RECIPES.items() for key, value in recipe.paper.items()}
    shares = {key: value for key, value in values.items() if key.split()[1] not in COSTS | SIMILARITIES}
    assert {key: value for key, value in shares.items() if not 0 < value < 100} == {}
    cosines = {key: value for key, value in values.items() if key.split()[1] in SIMILARITIES}
    assert {key: value for key, value in cosines.items() if not 0 < value < 1} == {}


def test_means_and_deviations_are_printed_of_rows_with_several_runs():
    several = {name for name, recipe in RECIPES.items() if recipe.runs.seeds > 1 or recipe.runs.folds}
    several -= {name for name in several if not RECIPES[name].paper}
    assert {name for name, recipe in RECIPES.items() if "top1_mean" in recipe.paper} == several


def test_every_data_set_is_known_and_has_the_folds():
    tasks = {"", *BENCHMARKS, *(f"{name}/{task}" for name, one in BENCHMARKS.items() for task in one.tasks)}
    known = {**{name: facts.folds for name, facts in catalog().items()}, **dict.fromkeys(tasks, 1)}
    used = {name: recipe.dataset.partition(":")[0] for name, recipe in RECIPES.items()}
    assert {name: one for name, one in used.items() if one not in known} == {}
    folds = {name: max([data.fold, *RECIPES[name].runs.folds]) for name, data in DATA.items()}
    assert [name for name, fold in folds.items() if fold > known[used[name]]] == []
    assert {one.partition(":")[0] for rules in RULES.values() for one in rules.data} <= tasks


def test_every_row_is_measured_by_known_metrics_class_lists_and_splits():
    assert {name: one.metric for name, one in RULES.items() if one.metric not in METRICS} == {}
    assert {name: one.class_lists for name, one in RULES.items() if not {*one.class_lists} <= {*CLASS_LISTS}} == {}
    splits = {name: data.test_split for name, data in DATA.items()}
    assert {name: one for name, one in splits.items() if one not in (None, "all") and split_name(one) is None} == {}


def test_rows_are_compared_with_rows_that_exist():
    named = {name: {*one.mean_of, *filter(None, [one.gain_over])} for name, one in RULES.items()}
    assert {name: others - {*RECIPES} for name, others in named.items() if others - {*RECIPES}} == {}


def test_a_mean_over_data_sets_is_of_rows_that_differ_in_their_data_alone():
    for name, rules in RULES.items():
        rows = [RECIPES[other] for other in rules.mean_of]
        assert len({row.dataset for row in rows}) == len(rows), name
        assert len({(row.method, str(row.model), row.start) for row in rows}) <= 1, name


def test_no_paper_row_selects_its_epoch_on_the_evaluation_videos():
    selected = {name: one.selection for name, one in RULES.items() if one.selection != "last"}
    assert set(selected.values()) == {"validation"}
    assert {name.partition("/")[0] for name in selected} == {"finetune", "kinofigures"}
    said = [name for name, recipe in RECIPES.items() if "best on the evaluation videos" in " ".join(recipe.caveats)]
    assert {name.partition("/")[0] for name in said} == {"bike", "text4vis", "actionclip"}
    assert {name for name in RECIPES if name.startswith(("bike/", "text4vis/", "actionclip/"))} == set(said)


def test_rows_that_train_the_attributes_branch_are_validated_by_it():
    trained = [name for name, recipe in RECIPES.items() if recipe.model.get("train_branch") == "attributes"]
    assert {RULES[name].validation_protocol for name in trained} == {"bike_attributes"}
    assert {RULES[name].protocol for name in trained} == {"bike_attributes", "bike_fused", "bike_fused_multi_view"}


def test_tam_is_trained_by_sgd_as_its_authors_do():
    rows = [r for r in RECIPES.values() if not _reads_clip(r) and r.dataset in catalog()]
    assert {
        (r.training.optimizer, r.training.lr, r.training.weight_decay, r.training.warmup_epochs) for r in rows
    } == {("sgd", 0.01, 5e-4, 0)}
    assert {row.data["normalization"] for row in rows} == {"imagenet"}


def test_few_shots_of_alt_train_the_decoder_alone_at_ten_times_the_rate():
    few = [r.training for name, r in RECIPES.items() if name.startswith("alt/") and r.data["shots"]]
    assert len(few) == 26  # Table 2: 16; Tables 5, C3 and C4: 10
    assert {(one.lr, one.backbone_scale, tuple(one.groups.items())) for one in few} == {
        (8e-5, 0.1, (("decoder", 8e-4),))
    }


def test_what_a_row_without_descriptions_prints_is_not_measured_with_them():
    # the 80.40 of Table 12 is that of Text4Vis with 8 frames in Table 2
    assert DATA["sllm/t12-r2-none"].descriptions is None
    assert RECIPES["sllm/t12-r2-none"].paper == {"top1": 80.40}


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
    others = {*LABEL_SETS, *NAME_SETS, *(name for one in BENCHMARKS.values() for name in one.names), None}
    corpora = {name: [data.corpus] if isinstance(data.corpus, str) else data.corpus for name, data in DATA.items()}
    named = {name: {*(corpora[name] or ()), data.chinese_labels, data.descriptions} for name, data in DATA.items()}
    known = {*CORPORA, *EXTENDED, *others, *(name for one in BENCHMARKS.values() for name in one.corpora)}
    assert {name: texts for name, texts in named.items() if not texts <= known} == {}
    # rows on new labels add their entities
    added = {name: corpus[1:] for name, corpus in corpora.items() if corpus and corpus[1:]}
    assert {name: corpus for name, corpus in added.items() if corpus != [RECIPES[name].dataset]} == {}
    assert len(added) == 39
    second = {name: data.chinese_labels for name, data in DATA.items() if data.chinese_labels}
    allowed = {name: {labels, labels.removesuffix("/english")} for name, labels in second.items()}
    used = {name: recipe.dataset.partition(":")[0].removesuffix("/actions") for name, recipe in RECIPES.items()}
    assert {name: labels for name, labels in second.items() if used[name] not in allowed[name]} == {}


def test_descriptions_cover_the_classes_of_the_data_set():
    named = {(recipe.dataset, DATA[name].descriptions) for name, recipe in RECIPES.items() if not RULES[name].mean_of}
    described = {dataset: texts for dataset, texts in named if texts}
    assert len(described) == 4
    for dataset, texts in described.items():
        labels = catalog()[dataset].class_names
        assert len(describe_labels(labels, label_descriptions(texts))) == len(labels)


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
