"""Class folders and the model's labels."""

from __future__ import annotations

import pytest

from vitlet.data.labels import match_classes, match_labels

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Ankle boot")


@pytest.mark.parametrize("folder", ["T-shirt/top", "t-shirt_top", "T_SHIRT TOP", "t.shirt  top", "T-Shirt-Top"])
def test_case_and_signs_do_not_count(folder: str) -> None:
    match = match_labels([folder], FASHION)
    assert match.indices == {folder: 0}
    assert match.note == ""


def test_letters_do_count() -> None:
    assert match_labels(["tshirttop"], FASHION).indices == {}


@pytest.mark.parametrize(
    ("folder", "index"), [("tabby", 1), ("Tabby_Cat", 1), ("tench, Tinca tinca", 0), ("tinca-tinca", 0)]
)
def test_any_synonym_will_do(folder: str, index: int) -> None:
    assert match_labels([folder], ("tench, Tinca tinca", "tabby, tabby cat")).indices == {folder: index}


def test_other_alphabets() -> None:
    assert match_labels(["КОШКА", "straße"], ("кошка", "STRASSE")).indices == {"КОШКА": 0, "straße": 1}


def test_an_ambiguous_name_stands_for_nothing() -> None:
    # ImageNet's 134 and 517: the bird and the machine.
    match = match_labels(["crane", "heron"], ("crane", "heron", "crane"))
    assert match.indices == {"heron": 1}
    assert match.note == (
        "1 of the 2 class folders could not be matched to one label of the model (crane); "
        "their images count as unlabelled"
    )


def test_a_whole_label_goes_before_a_synonym() -> None:
    # ImageNet's 638 and 639: "maillot" and "maillot, tank suit".
    assert match_labels(["maillot"], ("maillot, tank suit", "maillot")).indices == {"maillot": 1}


def test_numbers_are_class_indices() -> None:
    match = match_labels(["0", "3", "02"], FASHION)
    assert match.indices == {"0": 0, "3": 3, "02": 2}
    assert match.note == "folders named by numbers were taken for class indices"


def test_numbers_that_are_labels_are_labels() -> None:
    assert match_labels(["7", "8"], ("8", "7")).indices == {"7": 1, "8": 0}


def test_numbers_beyond_the_classes() -> None:
    match = match_labels(["1", "4"], FASHION)
    assert match.indices == {"1": 1}
    assert match.note.startswith("folders named by numbers were taken for class indices; 1 of the 2 class folders")
    years = match_labels(["2019", "2020"], FASHION)
    assert years.indices == {}
    assert years.note.startswith("all 2 class folders could not be matched to one label of the model (2019, 2020)")


def test_numbers_beside_words_are_no_indices() -> None:
    assert match_labels(["1", "holiday"], FASHION).indices == {}


def test_wordnet_ids_are_imagenets_for_a_thousand_classes() -> None:
    from timm.data import ImageNetInfo

    labels = ImageNetInfo().label_descriptions()
    match = match_labels(["n01440764", "n15075141", "n99999999"], labels)
    assert match.indices == {"n01440764": 0, "n15075141": 999}
    assert "(n99999999)" in match.note
    assert labels[0].startswith("tench")
    assert match_labels(["n01440764"], FASHION).indices == {}


def test_imagenets_own_labels_match_themselves() -> None:
    from timm.data import ImageNetInfo

    labels = ImageNetInfo().label_descriptions()
    matched = match_labels(labels, labels).indices
    doubled = {label for label in labels if labels.count(label) > 1}
    assert all(labels[index] == label for label, index in matched.items())
    assert set(labels) - set(matched) == doubled


def test_nothing_matches() -> None:
    match = match_labels([f"holiday{i}" for i in range(7)], FASHION)
    assert match.indices == {}
    assert match.note == (
        "all 7 class folders could not be matched to one label of the model (holiday0, holiday1, holiday2, holiday3, "
        "holiday4, and 2 more); their images count as unlabelled"
    )
    assert match_labels(["only"], FASHION).note.startswith("the only class folder could not be matched")


@pytest.mark.parametrize("folder", ["", "---", "..."])
def test_a_folder_of_signs_only_matches_nothing(folder: str) -> None:
    assert match_labels([folder], ("!", "?,")).indices == {}


def test_no_folders() -> None:
    assert match_labels([], FASHION).note == ""


def test_the_same_classes_in_the_same_order_are_the_same_classes() -> None:
    # ImageNet's two cranes are told apart by their place.
    match = match_classes(("crane", "heron", "crane"), ("Crane", "heron", "crane"))
    assert match.indices == (0, 1, 2)
    assert match.note == ""


def test_classes_in_another_order_are_matched_by_name() -> None:
    match = match_classes(("heron", "crane", "emu"), ("crane, bird", "heron", "kiwi"))
    assert match.indices == (1, 0, -1)
    assert match.note.startswith("1 of the 3 class folders could not be matched to one label of the model (emu)")


def test_a_name_that_two_classes_share_stands_for_nothing() -> None:
    match = match_classes(("crane", "heron", "crane"), ("crane", "heron"))
    assert match.indices == (-1, 1, -1)
    assert match.note == "several classes share a name (crane); their images count as unlabelled"
    match = match_classes(("crane", "emu", "crane"), ("crane", "heron"))
    assert match.note.count("; several classes share a name (crane)") == 1


def test_imagenet_is_matched_to_a_model_of_imagenet() -> None:
    from timm.data import ImageNetInfo

    names = ImageNetInfo("imagenet-1k").label_descriptions()
    assert match_classes(names, names).indices == tuple(range(1000))
