"""Recipes as files: every shipped one loads and prints as itself, and what is mistyped is named."""

import math
import tomllib
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlet.distill.recipe import Augmentation, Objective, Recipe, Student, Teacher, Training
from vitlet.distill.recipe_file import load_recipe, recipe_names, recipe_text
from vitlet.errors import InvalidValue
from vitlet.records import to_json

#: DeiT's settings (arXiv 2012.12877). "9" is table 9, the column "Procedure -> DeiT" of hyper-parameters; "script" the
#: defaults of main.py in facebookresearch/deit, which the paper says it was trained by.
PUBLISHED = {
    "training.epochs": 300,  # 9
    "training.batch": 1024,  # 9
    "training.optimizer": "adamw",  # 9
    "training.learning_rate": 0.0005,  # 9: 0.0005 x batchsize / 512
    "training.warmup_epochs": 5,  # 9
    "training.warmup_learning_rate": 1e-6,  # script: --warmup-lr
    "training.final_learning_rate": 1e-5,  # script: --min-lr
    "training.weight_decay": 0.05,  # 9
    "training.drop_path": 0.1,  # 9: stochastic depth
    "training.clip_norm": 0,  # 9: none
    "training.ema": 0,  # table 8: no gain of an exponential moving average; its results are without
    "augmentation.crop": "resized",  # timm's create_transform, which the script calls
    "augmentation.area": (0.08, 1.0),  # the same
    "augmentation.flip": 0.5,  # the same
    "augmentation.colour_jitter": 0.3,  # script: --color-jitter (not used beside RandAugment)
    "augmentation.random_augment": "rand-m9-mstd0.5-inc1",  # 9: 9/0.5; script: --aa
    "augmentation.interpolation": "bicubic",  # script: --train-interpolation
    "augmentation.repeats": 3,  # 9: repeated augmentation; three in the script's samplers.py
    "augmentation.mixup": 0.8,  # 9
    "augmentation.cutmix": 1.0,  # 9
    "augmentation.mix_share": 1.0,  # script: --mixup-prob
    "augmentation.erase": 0.25,  # 9
    "objective.kind": "hard",  # eq. 3, "DeiT with distillation token"
    "objective.through": "token",  # section 4
    "objective.share": 0.5,  # eq. 3
    "objective.temperature": 3.0,  # section 5.3, for eq. 2
    "objective.head": "average",  # section 4: joint classifiers
    "objective.label_smoothing": 0.1,  # 9
    "teacher.model": "timm:regnety_160.deit_in1k",  # section 5.2: RegNetY-16GF
    "student.model": "timm:deit_tiny_distilled_patch16_224",
}
#: Of the repository's README for DeiT-B at 384 pixels: --lr 5e-6 --weight-decay 1e-8 --epochs 30 --min-lr 5e-6, sixteen
#: GPUs with 32 images each.
PUBLISHED_AT_384 = {
    "training.epochs": 30,
    "training.batch": 512,
    "training.learning_rate": 5e-6,
    "training.final_learning_rate": 5e-6,
    "training.weight_decay": 1e-8,
    "student.image_size": 384,
}


def setting(recipe: Recipe, path: str) -> object:
    found: object = recipe
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(("path", "value"), PUBLISHED.items())
def test_the_deit_recipe_is_the_published_one(path, value):
    assert setting(load_recipe("deit"), path) == value


@pytest.mark.parametrize(("path", "value"), PUBLISHED_AT_384.items())
def test_the_recipe_at_384_pixels_is_the_published_one(path, value):
    assert setting(load_recipe("deit-384"), path) == value


@pytest.mark.parametrize(("kind", "share"), [("soft", 0.1), ("hard", 0.5)])
def test_the_weight_of_the_paper_is_that_of_the_kind(kind, share):
    """lambda = 0.1 of equation 2, by section 5.3; equation 3 is of equal parts."""
    assert load_recipe("deit", [f"objective.kind={kind}"]).objective.share == share
    assert Objective(kind, weight=0.7).share == 0.7


def test_each_kind_has_the_weight_of_the_paper():
    shares = {kind: load_recipe("deit", [f"objective.kind={kind}"]).objective.share for kind in ("soft", "hard")}
    assert shares == {"soft": 0.1, "hard": 0.5}  # section 5.3 and eq. 3
    assert load_recipe("quick", ["objective.weight=0.3"]).objective.share == 0.3


def test_the_learning_rate_is_scaled_as_published():
    assert load_recipe("deit").training.peak_learning_rate == pytest.approx(1e-3)
    assert load_recipe("deit-384").training.peak_learning_rate == pytest.approx(5e-6)


def test_a_recipe_without_any_setting_is_deits(tmp_path):
    (tmp_path / "empty.toml").write_text("")
    deit = load_recipe("deit")
    assert load_recipe(str(tmp_path / "empty.toml")) == Recipe() == replace(deit, student=Student())


def test_the_shipped_recipes():
    assert set(recipe_names()) == {"bundled", "deit", "deit-384", "quick"}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_is_printed_is_read_as_the_same(name, tmp_path):
    recipe = load_recipe(name)
    text = recipe_text(recipe)
    (tmp_path / "printed.toml").write_text(text, encoding="utf-8")
    assert load_recipe(str(tmp_path / "printed.toml")) == recipe
    assert recipe_text(load_recipe(str(tmp_path / "printed.toml"))) == text
    printed = tomllib.loads(text)
    for table, kind in ((printed, Recipe), (printed["objective"], Objective), (printed["augmentation"], Augmentation)):
        assert set(table) == {field.name for field in fields(kind)}
    for table, kind in ((printed["student"], Student), (printed["teacher"], Teacher), (printed["training"], Training)):
        assert set(table) == {field.name for field in fields(kind)}
    assert set(printed["teacher"]["training"]) == set(printed["training"])
    assert set(printed["teacher"]["augmentation"]) == set(printed["augmentation"])


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_was_read_is_written_as_one_that_was_made(name):
    """State files and stored decisions hold recipes against each other as JSON."""
    recipe = load_recipe(name)
    made = Recipe(
        replace(recipe.student),
        replace(recipe.teacher, training=replace(recipe.teacher.training)),
        replace(recipe.objective),
        replace(recipe.training),
        replace(recipe.augmentation),
    )
    assert to_json(recipe) == to_json(made)
    assert list(to_json(recipe)["training"]) == [field.name for field in fields(Training)]


def shares(most: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(0, most, allow_nan=False)


trainings = st.builds(
    Training,
    epochs=st.integers(5, 100_000),
    batch=st.integers(1, 1_048_576),
    optimizer=st.text(max_size=20),
    learning_rate=st.floats(1e-9, 100),
    warmup_epochs=st.floats(0, 5),
    final_learning_rate=shares(100),
    weight_decay=shares(10),
    ema=shares(0.999999),
    bfloat16=st.sampled_from([True, False, "auto"]),
    compile=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
augmentations = st.builds(
    Augmentation,
    crop=st.sampled_from(["resized", "shifted", "none"]),
    area=st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
    random_augment=st.text(max_size=20),
    mixup=shares(100),
    cycle=st.integers(0, 100_000),
)
objectives = st.builds(
    Objective,
    kind=st.sampled_from(["none", "soft", "hard"]),
    through=st.sampled_from(["class", "token", "both"]),
    weight=shares() | st.just("paper"),
    temperature=st.floats(0.01, 1000),
)
recipes = st.builds(
    Recipe,
    student=st.builds(Student, model=st.text(max_size=30), start=st.text(max_size=30), width=st.integers(1, 16384)),
    teacher=st.builds(
        Teacher,
        model=st.text(min_size=1, max_size=30).filter(str.strip),
        training=trainings,
        augmentation=augmentations,
    ),
    objective=objectives,
    training=trainings,
    augmentation=augmentations,
)


@settings(deadline=None, max_examples=50)
@given(recipes)
def test_any_recipe_that_is_printed_is_read_as_the_same(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("any") / "recipe.toml"
    path.write_bytes(recipe_text(recipe).encode())
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("training.epochs=50", "training.epochs", 50),
        (" training . epochs = 50 ", "training.epochs", 50),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("training.learning_rate=2e-4", "training.learning_rate", 2e-4),
        ('student.model="timm:deit_small_patch16_224"', "student.model", "timm:deit_small_patch16_224"),
        ("student.model=timm:deit_small_patch16_224", "student.model", "timm:deit_small_patch16_224"),
        ("student.model='a = b.safetensors'", "student.model", "a = b.safetensors"),
        ("student.model=a = b.safetensors", "student.model", "a = b.safetensors"),
        ('student.model=""', "student.model", ""),
        ("teacher.model=hf:./folder", "teacher.model", "hf:./folder"),
        ("augmentation.area=[0.2, 0.9]", "augmentation.area", (0.2, 0.9)),
        ("training.compile=true", "training.compile", True),
        ("training.bfloat16=false", "training.bfloat16", False),
        ("training.bfloat16=auto", "training.bfloat16", "auto"),
        ("teacher.training.epochs=7", "teacher.training.epochs", 7),
        ("objective.kind=soft", "objective.kind", "soft"),
        ("objective.weight=0.3", "objective.weight", 0.3),
        ("objective.weight=1", "objective.weight", 1.0),
    ],
)
def test_changes(change, path, value):
    changed = load_recipe("deit", [change])
    assert setting(changed, path) == value
    section, _, name = path.rpartition(".")
    unchanged = replace(setting(changed, section), **{name: setting(load_recipe("deit"), path)})
    assert unchanged == setting(load_recipe("deit"), section)


def test_changes_are_made_in_order_and_checked_together():
    recipe = load_recipe("deit", ["training.epochs=2", "training.warmup_epochs=1", "training.epochs=3"])
    assert (recipe.training.epochs, recipe.training.warmup_epochs) == (3, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epoch=50", r"a recipe has no setting training\.epoch; did you mean training\.epochs\?"),
        ("trainig.epochs=50", r"a recipe has no setting trainig; did you mean training\?"),
        ("teacher.training.epoch=5", r"no setting teacher\.training\.epoch; did you mean teacher\.training\.epochs\?"),
        ("objective.zzz=1", r"no setting objective\.zzz; there are: kind, through, weight"),
        ("training=5", r"a recipe's training is a table of settings, not 5"),
        ("training.epochs.more=5", r"'training\.epochs\.more' is no setting of a recipe: 'epochs' has none below it"),
        ("training.epochs=many", r"recipe deit: Expected `int`, got `str` - at `\$\.training\.epochs`"),
        ("training.epochs=5.5", r"recipe deit: Expected `int`, got `float` - at `\$\.training\.epochs`"),
        ("training.epochs=true", r"recipe deit: Expected `int`, got `bool` - at `\$\.training\.epochs`"),
        ("training.epochs=2020-01-01", r"recipe deit: Expected `int`.* - at `\$\.training\.epochs`"),
        ("training.bfloat16=1", r"recipe deit: Expected `bool \| str`, got `int` - at `\$\.training\.bfloat16`"),
        ("training.bfloat16=True", r"recipe deit: Invalid enum value 'True' - at `\$\.training\.bfloat16`"),
        ("objective.kind=mild", r"recipe deit: Invalid enum value 'mild' - at `\$\.objective\.kind`"),
        ("augmentation.area=[0.1]", r"recipe deit: Expected `array` of length 2.* - at `\$\.augmentation\.area`"),
        ("training.epochs=0", r"recipe deit: training\.epochs is 0; it must be 1 to 100000"),
        ("training.learning_rate=nan", r"training\.learning_rate is nan; it must be 1e-09 to 100"),
        ("training.learning_rate=-inf", r"training\.learning_rate is -inf; it must be"),
        ("training.warmup_epochs=301", r"training\.warmup_epochs is 301\.0; it must be 0 to 300"),
        ("augmentation.area=[0.9, 0.2]", r"augmentation\.area is \[0\.9, 0\.2\]; it must be two shares, the smaller"),
        ("augmentation.area=[nan, 0.2]", r"augmentation\.area is"),
        ("objective.weight=some", r"recipe deit: Invalid enum value 'some' - at `\$\.objective\.weight`"),
        ("objective.weight=1.5", r"objective\.weight is 1\.5; it must be 0 to 1"),
        ("teacher.model=", r"teacher\.model is empty; name a model, or small-resnet to train one"),
        ("training.epochs", r"'training\.epochs' changes no setting; write one as in training\.epochs=50"),
        ("=50", r"'=50' changes no setting"),
        ("training..epochs=50", r"'training\.\.epochs=50' changes no setting"),
        ("", r"'' changes no setting"),
        (f"training.epochs={'9' * 5000}", r"training\.epochs"),
    ],
)
def test_changes_that_cannot_be_made(change, message):
    with pytest.raises(InvalidValue, match=message):
        load_recipe("deit", [change])


@pytest.mark.parametrize(
    ("section", "name", "values"),
    [
        (Student(), "image_size", (-1, 8193)),
        (Student(), "patch", (0,)),
        (Student(), "width", (0,)),
        (Student(), "depth", (0, 513)),
        (Student(), "heads", (0,)),
        (Student(), "mlp_ratio", (0.0, math.nan)),
        (Objective(), "weight", (-0.1, 1.1, math.nan)),
        (Objective(), "temperature", (0.0, math.inf)),
        (Objective(), "label_smoothing", (-0.1, 1.0)),
        (Training(), "batch", (0,)),
        (Training(), "learning_rate", (0.0, math.inf)),
        (Training(), "warmup_epochs", (-1, 300.5)),
        (Training(), "warmup_learning_rate", (-1e-9,)),
        (Training(), "final_learning_rate", (-1e-9,)),
        (Training(), "weight_decay", (-0.1,)),
        (Training(), "drop_path", (-0.1, 1.0)),
        (Training(), "clip_norm", (-1.0,)),
        (Training(), "ema", (-0.1, 1.0)),
        (Training(), "seed", (-1, 2**31)),
        (Augmentation(), "shift", (-1,)),
        (Augmentation(), "flip", (-0.1, 1.1)),
        (Augmentation(), "colour_jitter", (-0.1,)),
        (Augmentation(), "repeats", (0,)),
        (Augmentation(), "mixup", (-0.1,)),
        (Augmentation(), "cutmix", (-0.1,)),
        (Augmentation(), "mix_share", (1.1,)),
        (Augmentation(), "erase", (-0.1, 1.1)),
        (Augmentation(), "cycle", (-1,)),
        (Teacher(), "label_smoothing", (1.0,)),
    ],
)
def test_out_of_range_is_refused_with_value_and_range(section, name, values):
    for value in values:
        place = f"{type(section).__name__.lower()}.{name}"
        with pytest.raises(InvalidValue, match=rf"{place} is {value}; it must be "):
            replace(section, **{name: value})


@pytest.mark.parametrize(
    "text",
    [
        "[training",
        "epochs 50",
        "[training]\nepochs = 1\nepochs = 2",
        "a = " + "[" * 5000,
        "[training]\nepochs = " + "9" * 5000,
        "\0",
    ],
    ids=["table", "no equals", "twice", "deep", "long number", "zero byte"],
)
def test_what_is_no_toml(text, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=r"recipe\.toml is no TOML file: "):
        load_recipe(str(path))


def test_a_file_names_the_setting_that_it_mistypes(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepoch = 50\n")
    with pytest.raises(InvalidValue, match=r"no setting training\.epoch; did you mean training\.epochs\?"):
        load_recipe(str(path))
    path.write_text("[training]\nepochs = 0\n")
    with pytest.raises(InvalidValue, match=r"recipe .*mine\.toml: training\.epochs is 0"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", ["deitt", "none.toml", "", "x" * 5000, "a\0b", "~nobody-of-that-name/recipe.toml"])
def test_a_recipe_that_is_not_there(name):
    with pytest.raises(InvalidValue, match=r"there is no recipe .* one of bundled, deit, deit-384, quick"):
        load_recipe(name)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(InvalidValue, match="there is no recipe"):
        load_recipe(str(tmp_path))


def test_a_file_that_is_too_large_or_no_text(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(InvalidValue, match=r"recipe\.toml has 1000001 bytes, too many for a recipe"):
        load_recipe(str(path))
    path.write_bytes(b"# \xff\xfe")
    with pytest.raises(InvalidValue, match=r"the recipe .*recipe\.toml cannot be read"):
        load_recipe(str(path))
