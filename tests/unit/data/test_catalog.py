import pytest

from kinoclip.data import catalog, dataset_facts


@pytest.mark.parametrize("name", sorted(catalog()))
def test_facts_agree_with_the_packaged_labels(name):
    facts = dataset_facts(name)
    assert facts.class_names is None or len(facts.class_names) == facts.num_classes
    assert facts.source in facts.describe()
    assert not facts.sizes or facts.evaluated_split in facts.sizes


@pytest.mark.parametrize(
    ("name", "split", "fold", "size"),
    [
        ("kinetics400", "validation", 1, 19907),
        ("ucf101", "train", 3, 9624),
        ("ucf101", None, 1, 13320),
        ("hmdb51", "test", 2, 1530),
        ("activitynet", None, 1, 14950),  # 10,024 + 4,926: test has no labels
        ("charades", None, 1, 9848),  # 7,985 + 1,863
        ("kinetics600", "train", 1, None),
    ],
)
def test_official_sizes_are_those_of_the_split_and_fold(name, split, fold, size):
    assert dataset_facts(name).official_size(split, fold) == size


def test_papers_report_on_validation_where_the_labels_of_the_test_videos_are_not_public():
    found = {name for name, facts in catalog().items() if facts.evaluated_split == "validation"}
    assert found == {"activitynet", "kinetics400", "kinetics600", "ssv1", "ssv2"}
