"""Is a recipe read exactly, and is every mistake in it named?"""

from pathlib import Path

import pytest

from mmd.errors import UsageError
from mmd_tools.presets import PRESETS
from mmd_tools.recipe import Recipe
from mmd_tools.recipe_check import load_recipe

WHOLE = """
name = "digits"
description = "ten digits"
licence = "CC0-1.0"
classes = ["zero", "one"]
anchor = "data/anchor.npz"
seed = 3

[input]
kind = "image"
scale = 0.5
mean = [0.1]
std = [0.3]

[[probe]]
mentor = "relu5"
mentee = "relu2"
loss = "cosine"
weight = 0.5
schedule = [[0, 1], [0.5, 0]]

[[probe]]
mentor = "relu6"
mentee = "relu3"

[loss]
temperature = 2
soft = "dkd"
label_smoothing = 0.1
nckd_weight = 4.0
default_schedule = "mine"
[loss.schedules.mine]
alpha = [[0, 0.5], [1, 1]]
beta = [[0, 1]]
gamma = [[0, 0]]

[optimizer]
weight_decay = 0.0

[training]
epochs = 4
batch_size = 16
learning_rate = 2e-3
replay = 0.25
"""

SMALL = 'name = "a"\nlicence = "MIT"\nclasses = ["a", "b"]\nanchor = "a.npz"\n'
PROBE = "[[probe]]\nmentor = 'a'\nmentee = 'b'\n"


def read(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(text)
    return load_recipe(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert "\n" not in str(caught.value)
    assert "recipe.toml" in str(caught.value)
    return str(caught.value)


def test_every_key_is_read(tmp_path: Path) -> None:
    recipe = read(tmp_path, WHOLE)
    assert recipe.classes == ("zero", "one")
    assert [(probe.mentor, probe.loss, probe.weight, probe.schedule) for probe in recipe.probe] == [
        ("relu5", "cosine", 0.5, ((0.0, 1.0), (0.5, 0.0))),
        ("relu6", "rmse", 1.0, ()),
    ]
    assert recipe.loss.temperature == 2.0
    assert (recipe.loss.soft, recipe.loss.label_smoothing) == ("dkd", 0.1)
    assert (recipe.loss.tckd_weight, recipe.loss.nckd_weight) == (1.0, 4.0)
    assert recipe.loss.all_schedules["mine"].alpha == ((0.0, 0.5), (1.0, 1.0))
    assert recipe.optimizer.weight_decay == 0.0
    assert recipe.training.batch_size == 16


def test_the_anchor_lies_beside_the_recipe(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE).anchor == str(tmp_path / "data" / "anchor.npz")


def test_the_presets_are_always_there(tmp_path: Path) -> None:
    recipe = read(tmp_path, SMALL)
    assert recipe.loss.all_schedules.keys() == PRESETS.keys()
    assert PRESETS.keys() == {"obedient", "adamant", "independent", "unlabelled"}
    assert recipe.loss.default_schedule == "obedient"


def test_presets_mean_what_their_names_say() -> None:
    def ends(name: str, term: str) -> tuple[float, float]:
        points = getattr(PRESETS[name], term)
        return points[0][1], points[-1][1]

    assert ends("obedient", "alpha")[0] < ends("obedient", "alpha")[1]
    assert ends("obedient", "beta")[0] > ends("obedient", "beta")[1]
    assert ends("adamant", "alpha")[0] > ends("adamant", "beta")[0]
    assert ends("independent", "beta") == ends("independent", "gamma") == (0.0, 0.0)
    assert ends("unlabelled", "alpha") == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + 'licens = "x"\n', "unknown key `licens`; did you mean `licence`?"),
        (SMALL + "[input]\nscal = 1\n", "unknown key `input.scal`; did you mean `input.scale`?"),
        (SMALL + "[[probe]]\nmentr = 'a'\n", "unknown key `probe[0].mentr`; did you mean `probe[0].mentor`?"),
        (SMALL + "[loss.schedules.x]\nalfa = []\n", "unknown key `loss.schedules.x.alfa`; did you mean"),
        (SMALL + "[wholly]\n", "unknown key `wholly`; known here: name,"),
        (SMALL.replace("anchor", "ankor"), "did you mean `anchor`?"),
        (SMALL.replace('name = "a"\n', ""), "missing required field `name`"),
        (SMALL + "[[probe]]\nmentor='a'\nmentee='b'\nloss='l1'\n", "Invalid enum value 'l1'"),
        (SMALL + "[training]\nreplay = 2.0\n", "replay"),
        (SMALL + "[loss]\ntemperature = 0\n", "temperature"),
        (SMALL + "[loss]\ndefault_schedule = 'obedien'\n", "no schedule `obedien`; did you mean `obedient`"),
        (SMALL + "[loss]\nlabelled_schedule = 'indpendent'\n", "no schedule `indpendent`; did you mean `independent`"),
        (SMALL + "[loss]\ndefault_schedule = ''\n", "no schedule ``"),
        (SMALL.replace('["a", "b"]', '["a"]'), "at least two"),
        (SMALL.replace('["a", "b"]', '["a", "a"]'), "'a' twice"),
        (SMALL + "[loss.schedules.x]\nalpha=[[1,1],[0,1]]\nbeta=[[0,0]]\ngamma=[[0,0]]\n", "progress rising"),
        (SMALL + "[loss.schedules.x]\nalpha=[[0,-1]]\nbeta=[[0,0]]\ngamma=[[0,0]]\n", "negative coefficient"),
        (SMALL + "[optimizer]\nkind = 'adam'\n", "Invalid enum value 'adam'"),
        (SMALL + "[optimizer]\nkind = 'sgd'\nmomentum = 1.0\n", "`optimizer.momentum` is 1.0"),
        (SMALL + "[optimizer]\nclip_norm = -1.0\n", "`optimizer.clip_norm` is -1.0"),
        (SMALL + "[optimizer]\nmomentum = 0.9\n", 'for `kind = "sgd"`'),
        (SMALL + "[optimizer]\nkind = 'sgd'\nnesterov = true\n", "needs an `optimizer.momentum`"),
        ("name = ", "is not TOML"),
        (SMALL + "[loss]\nsoft = 'l2'\n", "Invalid enum value 'l2'"),
        (SMALL + "[loss]\nlabel_smoothing = 1.0\n", "label_smoothing"),
        (SMALL + "[loss]\nnckd_weight = 2.0\n", '`loss.nckd_weight` are for `soft = "dkd"`, not "kl"'),
        (SMALL + PROBE + "schedule = [[0.5, 1], [0, 1]]\n", "`probe[0].schedule` needs points"),
        (SMALL + PROBE + "loss = 'attention'\nwidth = 'select'\n", "`probe[0].width` is of no use"),
        ('pairs = "auto"\n' + SMALL + PROBE, "finds the pairs, and [[probe]] names them"),
        (SMALL + "[auto]\ncount = 2\n", '[auto] is for `pairs = "auto"`'),
        ('pairs = "auto"\n' + SMALL + "[auto]\nloss = 'similarity'\nwidth = 'pca'\n", "`auto.width` is of no use"),
        (SMALL + PROBE + "scope = 'all'\n", "Invalid enum value 'all'"),
        (SMALL + PROBE + "width = 'slice'\n", "Invalid enum value 'slice'"),
        (SMALL + PROBE + "loss = 'similarity'\n[training]\nbatch_size = 1\n", "a batch_size of 1 has one only"),
    ],
)
def test_a_mistake_is_named(text: str, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, text)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read the recipe .*gone\.toml: No such file"):
        load_recipe(tmp_path / "gone.toml")
