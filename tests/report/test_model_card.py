"""The model card of a bundle, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from vitlet.bundle.manifest import Images
from vitlet.certify.certificate import Certificate
from vitlet.report.model_card import render_model_card

CERTIFICATE = Certificate(0.95, 1000, 3, 0.008, 1000, 1, 1, -0.003, 0.004, 0.005, "pass", earlier_looks=0)


@pytest.fixture
def manifest(manifest):
    """With a verdict on it."""
    return replace(manifest, certificate=CERTIFICATE)


def test_the_hub_can_read_it(manifest):
    chosen = replace(manifest.measurements[manifest.chosen], top1=0.91239, images=500, labelled_images=500)
    rows = list(manifest.measurements)
    rows[manifest.chosen] = chosen
    card = ModelCard(render_model_card(replace(manifest, measurements=tuple(rows), images=Images(500, 500))))
    assert card.data.library_name == "vitlet"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.model_name == manifest.reference
    (found,) = card.data.eval_results
    assert (found.metric_type, found.metric_value) == ("accuracy", 0.9124)
    assert card.data.base_model is None


def test_a_model_of_the_hub_names_what_it_was_made_from(manifest):
    card = ModelCard(render_model_card(replace(manifest, reference="hf:facebook/deit-tiny-patch16-224")))
    assert (card.data.base_model, card.data.base_model_relation) == ("facebook/deit-tiny-patch16-224", "quantized")


def test_what_a_person_reads(manifest):
    text = render_model_card(manifest)
    assert "**PASS: with 95 % confidence top-1 drops by at most 0.40 points" in text
    assert "It tells " in text
    assert manifest.labels[0] in text
    assert "from preprocess import load" in text
    for row in (manifest.measurements[manifest.chosen], manifest.measurements[manifest.baseline]):
        assert f"| {row.engine} {row.precision} |" in text


def test_what_runs_only_with_vitlet_is_not_said_to_run_without(manifest):
    native = replace(manifest, model=replace(manifest.model, engine="native"))
    assert "from runtime import" not in render_model_card(native)


def test_many_labels_are_not_all_named(manifest):
    labels = tuple(f"class {number}" for number in range(1000))
    architecture = replace(manifest.architecture, classes=1000)
    model = replace(manifest.model, classes=1000)
    text = render_model_card(replace(manifest, labels=labels, architecture=architecture, model=model))
    assert "class 19, and 980 more" in text
    assert "class 20" not in text


def test_names_cannot_break_out(manifest):
    """Labels and references come from strangers."""
    labels = ("<script>alert(1)</script>", "a\n# b", "`c` [d](http://e)")
    hostile = replace(manifest, labels=labels, reference='x"\n---\ninjected: true')
    text = render_model_card(hostile)
    assert not re.search(r"(?<!\\)(<script|\]\(http)", text)
    assert "\n# b" not in text
    assert "injected" not in ModelCard(text).data.to_dict()


def test_random_weights_have_no_accuracy(manifest):
    text = render_model_card(replace(manifest, random_weights=True))
    assert "Its weights are random" in text
    assert ModelCard(text).data.eval_results is None
