"""What two models' answers to the same images say, with labels and without."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vitlet.certify.certificate import certify
from vitlet.certify.disagreement import upper_bound as changed_at_most
from vitlet.certify.looks import confidence_of_look
from vitlet.certify.paired import Paired, lower_bound, upper_bound
from vitlet.certify.sentences import remarks, sentence
from vitlet.data.twins import Twins
from vitlet.errors import InvalidValue
from vitlet.measure.accuracy import expected_calibration_error
from vitlet.records import to_json


def answers(classes: list[int]) -> np.ndarray:
    """Logits whose highest is that of these classes, of 4."""
    return np.eye(4, dtype=np.float32)[classes]


def many(images: int, *, lost: int = 0, won: int = 0, both_wrong: int = 0) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Logits, labels, and the original's logits: the true class is 0; "both wrong" changes without a loss or a win."""
    same = images - lost - won - both_wrong
    before = [0] * lost + [1] * won + [2] * both_wrong + [0] * same
    after = [1] * lost + [0] * won + [3] * both_wrong + [0] * same
    return answers(after), [0] * images, answers(before)


def test_counts_and_bounds():
    logits, labels, original = many(1000, lost=9, won=4, both_wrong=5)
    found = certify(logits, labels, original, confidence=0.9)
    assert (found.images, found.labelled, found.changed, found.lost, found.won) == (1000, 1000, 18, 9, 4)
    assert found.drop == pytest.approx(0.005)
    seen = Paired(1000, 9, 4)
    assert (found.drop_at_least, found.drop_at_most) == (lower_bound(seen, 0.9), upper_bound(seen, 0.9))
    assert found.changed_at_most == changed_at_most(18, 1000, 0.9)
    assert (found.limit, found.outcome, found.more_images) == (None, None, None)


def test_images_without_a_label_count_only_as_changed():
    logits, labels, original = many(100, lost=2)
    labels[0] = -1
    found = certify(logits, labels, original)
    assert (found.images, found.labelled, found.changed, found.lost) == (100, 99, 2, 1)


@pytest.mark.parametrize(
    ("images", "changes", "limit", "outcome"),
    [
        (2000, {"lost": 3, "won": 3}, 0.005, "pass"),
        (2000, {"lost": 100, "won": 3}, 0.005, "fail"),
        (50, {}, 0.005, "inconclusive"),
    ],
)
def test_outcome_with_labels(images, changes, limit, outcome):
    logits, labels, original = many(images, **changes)
    found = certify(logits, labels, original, limit=limit)
    assert found.outcome == outcome
    assert (found.more_images is not None) == (outcome == "inconclusive")


@pytest.mark.parametrize(
    ("images", "changed", "limit", "outcome", "more"),
    [
        (2000, 3, 0.005, "pass", False),
        (2000, 100, 0.005, "inconclusive", False),  # all of them may have been wrong before
        (100, 0, 0.005, "inconclusive", True),
    ],
)
def test_without_labels_a_drop_can_be_ruled_out_but_not_shown(images, changed, limit, outcome, more):
    logits, _, original = many(images, both_wrong=changed)
    found = certify(logits, [-1] * images, original, limit=limit)
    assert (found.outcome, found.more_images is not None) == (outcome, more)
    assert (found.drop, found.drop_at_least) == (None, None)
    assert found.drop_at_most == found.changed_at_most == changed_at_most(changed, images)


SENTENCES = [
    (many(2000, lost=4, won=3), {"limit": 0.005}, "PASS: with 95 % confidence top-1 drops by at most 0.32 points"),
    (many(2000, lost=4, won=3), {}, "with 95 % confidence top-1 drops by at most 0.32 points (4 of 2,000 images lost"),
    (many(2000, won=60), {}, "with 95 % confidence top-1 rises by at least 2."),
    (many(2000, lost=100), {"limit": 0.01, "confidence": 0.999}, "FAIL: with 99.9 % confidence top-1 drops by at lea"),
    (many(50), {"limit": 0.005}, "INCONCLUSIVE: top-1 changes by -5.82 to +5.82 points, each bound with 95 % confi"),
]


@pytest.mark.parametrize(("given", "settings", "begin"), SENTENCES)
def test_sentences(given, settings, begin):
    assert sentence(certify(*given, **settings)).startswith(begin)


def test_sentences_about_more_images():
    logits, labels, original = many(50)
    found = certify(logits, labels, original, limit=0.005)
    needed = found.more_images
    assert f"; about {-(-needed // 100) * 100:,} more images would decide" in sentence(found)
    unlabelled = certify(logits, [-1] * 50, original, limit=0.005)
    assert "50 images changed, no labels; limit 0.50 points); about" in sentence(unlabelled)
    logits, _, original = many(50, lost=20)
    assert "only labels could tell" in sentence(certify(logits, [-1] * 50, original, limit=0.005))


@pytest.mark.parametrize("earlier", [0, 1, 5])
def test_further_looks_are_held_to_more(earlier):
    logits, labels, original = many(1000, lost=9, won=4, both_wrong=5)
    found, sure = certify(logits, labels, original, earlier_looks=earlier), confidence_of_look(0.95, earlier)
    seen = Paired(1000, 9, 4)
    assert (found.drop_at_least, found.drop_at_most) == (lower_bound(seen, sure), upper_bound(seen, sure))
    assert found.changed_at_most == changed_at_most(18, 1000, sure)
    assert certify(logits, [-1] * 1000, original, earlier_looks=earlier).drop_at_most == found.changed_at_most
    assert (found.earlier_looks, found.confidence) == (earlier, 0.95)
    told = f"as these images had a part in {earlier} other verdict{'' if earlier == 1 else 's'} before"
    assert (told in sentence(found)) == (earlier > 0)


@pytest.mark.parametrize(("earlier", "held"), [(1, "99.38"), (3, "99.9"), (99, "99.99987")])
def test_what_a_further_look_is_held_to_is_never_told_as_certain(earlier, held):
    told = sentence(certify(*many(100, lost=9), earlier_looks=earlier))
    assert told.endswith(f"this one is held to {held} %")


def test_unknown_looks_are_told_with_a_verdict():
    told = "whether these images judged before is not known"
    assert told in sentence(certify(*many(2000), limit=0.005))
    assert told not in sentence(certify(*many(2000), limit=0.005, earlier_looks=0))
    assert told not in sentence(certify(*many(2000)))


def test_a_drop_that_passes_at_first_may_not_pass_after_others():
    given = many(2000, lost=4, won=3)
    assert certify(*given, limit=0.0034).outcome == "pass"
    assert certify(*given, limit=0.0034, earlier_looks=3).outcome == "inconclusive"


def test_more_images_reckon_with_another_look():
    given = many(50)
    assert certify(*given, limit=0.005, earlier_looks=0).more_images > certify(*given, limit=0.005).more_images


def test_calibration_error_and_classes():
    logits, labels, original = many(1000, lost=300)
    found = certify(logits, labels, original)
    assert found.calibration_error == expected_calibration_error(logits, labels)
    assert found.original_calibration_error == expected_calibration_error(original, labels)
    assert [(one.index, one.lost) for one in found.classes] == [(0, 300)]
    unlabelled = certify(logits, [-1] * 1000, original)
    assert (unlabelled.classes, unlabelled.calibration_error) == ((), None)


def test_remarks():
    worse, same = certify(*many(1000, lost=300)), certify(*many(1000, lost=3, won=2))
    (about,) = remarks(worse, ("T-shirt", "b", "c", "d"), ())
    assert about.startswith("1 class became worse, with 95 % confidence in all of it: 'T-shirt' by at least 27.")
    assert remarks(same, ("a", "b", "c", "d"), ()) == ()
    (about,) = remarks(same, ("a", "b", "c", "d"), (Twins("one.jpg", "two.jpg"), Twins("three.jpg", "four.jpg")))
    assert "2 images to certify with look like one that had a part in the choice (one.jpg like two.jpg)" in about
    (about,) = remarks(certify(*many(50), limit=0.005), ("a", "b", "c", "d"), ())
    assert about == (
        "Of further images in --data three in five are for the verdict (of those in --certify-data all), up to "
        "--certify-limit."
    )


@pytest.mark.parametrize("change", [{"images": 0}, {"changed": 51}, {"labelled": 51}, {"lost": 51}, {"won": -1}])
def test_counts_that_do_not_go_together(change):
    """As a bundle that was tampered with may have them."""
    with pytest.raises(InvalidValue, match="do not go together"):
        replace(certify(*many(50)), **change)


def test_is_plain_json():
    assert json.loads(json.dumps(to_json(certify(*many(50), limit=0.1))))["outcome"] == "pass"


@pytest.mark.parametrize(
    ("logits", "labels", "original"),
    [
        (answers([0, 1]), [0], answers([0, 1])),
        (answers([0, 1]), [0, 1], answers([0])),
        (answers([0, 1]), [0, 1], answers([0, 1])[:, :3]),
        (answers([]), [], answers([])),
    ],
)
def test_what_cannot_be_compared(logits, labels, original):
    with pytest.raises(InvalidValue, match="cannot be compared"):
        certify(logits, labels, original)


@pytest.mark.parametrize("settings", [{"limit": 1.0}, {"limit": -0.1}, {"confidence": 0.3}, {"confidence": 1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(InvalidValue, match="it must be at least"):
        certify(*many(10), **settings)
