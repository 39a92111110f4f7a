"""What a command line gives, and what is said of one that is wrong: the option as typed, value, rule, way out."""

import sys

import pytest

from gscnn_platform.command_line import choose, read
from gscnn_platform.config import CacheConfig, ExperimentConfig, InferenceConfig
from gscnn_platform.recipes import RECIPES

DOC = """python -m jobs.train streets --store data/streets: trains a recipe.

More of it.
"""
CONFIGS = {name: (f"recipe {name}", recipe) for name, recipe in RECIPES.items()}
FIRST = ("store", "loss.edge")


def chosen(monkeypatch: pytest.MonkeyPatch, *words: str) -> ExperimentConfig:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    return choose(CONFIGS, DOC, "recipe", FIRST)


def ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, status: int = 2
) -> tuple[str, str]:
    """Standard output and error of a command line that does not start a job."""
    with pytest.raises(SystemExit) as stopped:
        chosen(monkeypatch, *words)
    assert stopped.value.code == status
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_options_change_the_fields_that_they_name_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, "streets", "--loss.edge", "3", "--augmentation.crop", "64", "96", "--training.compile")
    assert found.loss.edge == 3
    assert found.augmentation.crop == (64, 96)
    assert found.training.compile
    changed = found.model_dump()
    before = RECIPES["streets"].model_dump()
    assert {key for key in before if before[key] != changed[key]} == {"loss", "augmentation", "training"}
    assert chosen(monkeypatch, "camvid") == RECIPES["camvid"]


@pytest.mark.parametrize(
    ("words", "first_line"),
    [
        ("--training.epochs 0", "--training.epochs is 0: must be 1 or more"),
        ("--seed -1", "--seed is -1: must be 0 or more"),
        ("--optimizer.lr 0", "--optimizer.lr is 0: must be more than 0"),
        ("--optimizer.momentum 1", "--optimizer.momentum is 1: must be less than 1"),
        (
            "--model.frozen-stages 9",
            "--model.frozen-stages is 9: resnet10_small has 5 stages, stem, layer1, layer2, layer3, layer4",
        ),
        ("--model.frozen-stages -1", "--model.frozen-stages is -1: must be 0 or more"),
        ("--optimizer.name adam", "--optimizer.name is adam: must be sgd or adamw\ndid you mean adamw?"),
        ("--optimizer.betas 0.9 1", "--optimizer.betas is 0.9 1: each must be 0 or more and less than 1"),
        ("--optimizer.momentum 0", "--optimizer.momentum is 0: must be more than 0 with --optimizer.nesterov"),
        (
            "--optimizer.schedule one_cycle --optimizer.warmup-epochs 2",
            "--optimizer.warmup-epochs is 2: must be 0 with --optimizer.schedule one_cycle, which has its own rise",
        ),
        ("--optimizer.lr nan", "--optimizer.lr is nan: must be a finite number"),
        ("--optimizer.lr inf", "--optimizer.lr is inf: must be a finite number"),
        ("--loss.dual -inf", "--loss.dual is -inf: must be a finite number"),
        ("--augmentation.crop 97 16", "--augmentation.crop is 97 16: a side needs 32 pixels or more"),
        (
            "--augmentation.scale 2 1",
            "--augmentation.scale is 2 1: must be the smallest scale, above 0, and then the largest",
        ),
        ("--seed 4294967296", "--seed is 4294967296: must be 4294967295 or less"),
        ("--seed 3 --seed x", "--seed is x: must be a whole number"),
        ("--store -dash", "--store needs a value\nwrite --store=-dash for a value that starts with a dash\n"),
        ("\N{EM DASH}store x", "\N{EM DASH}store begins with a dash that is not a hyphen: write --store"),
        ("-- --store x", "-- is not an option: leave it out"),
        ("--loss.edge=", "--loss.edge is '': must be a number"),
        ("--store caf\udce9", r"caf\xe9 is not UTF-8: "),
        ("--training.epochs abc", "--training.epochs is abc: must be a whole number"),
        ("--training.epochs=1.5", "--training.epochs is 1.5: must be a whole number"),
        ("--augmentation.crop 97 a", "--augmentation.crop is 97 a: must be 2 values, each a whole number"),
        ("--augmentation.crop 97", "--augmentation.crop needs 2 values"),
        ("--loss.edge --store x", "--loss.edge needs a value"),
        ("--loss.egde 3", "--loss.egde is not an option"),
        (
            "--training.compile True",
            "--training.compile takes no value: write --training.compile or --training.no-compile",
        ),
        ("two words", "two does not belong to an option"),
        ("--min-workers 3", "--min-workers is 3: must be at most --num-workers, 1"),
        (
            "--loss.edge 0 --loss.seg 0 --loss.attention 0",
            "--loss.seg, --loss.edge, --loss.attention, --loss.dual, --loss.lovasz and --loss.dice are all 0",
        ),
        ("--model.architecture deeplabv3plus", "--loss.edge is 5 and --loss.attention is "),
        ("--training.batch-size 1", "--training.batch-size is 1: must be 2 or more for --num-workers 1 x "),
        ("--tracking.uri=", "--tracking.uri is '': must not be empty: give one, or omit the option"),
        ("--tracking.uri http://me:secret@host", "--tracking.uri is http://***:***@host: "),
    ],
)
def test_what_is_wrong_is_said_with_the_option_as_typed_its_value_and_the_rule(
    words: str, first_line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, error = ended(monkeypatch, capsys, "streets", *words.split())
    assert not printed
    assert error.startswith(first_line)
    assert len(error.splitlines()) <= 3
    assert "secret" not in error
    for foreign in ("pydantic", "Config", "tyro", "─", "type="):
        assert foreign not in error


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("--loss.egde 3", "did you mean --loss.edge"),
        ("--training.acumulate 2", "did you mean --training.accumulate"),
        ("--training.no-sync-bm", "did you mean --training.no-sync-bn"),
        ("--training.best-metric mio", "did you mean miou?"),
    ],
)
def test_a_near_miss_is_suggested(
    words: str, near: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert near in ended(monkeypatch, capsys, "streets", *words.split())[1]


def test_an_unknown_recipe_is_answered_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ended(monkeypatch, capsys, "strets", "--store", "x")[1]
    assert error.startswith(f"there is no recipe strets; there are: {', '.join(RECIPES)}\ndid you mean streets")
    error = ended(monkeypatch, capsys, "--store", "x")[1]
    assert error.startswith("--store is not a recipe; there are: ")
    assert error.endswith("example: python -m jobs.train streets --store data/streets\n")


def test_without_arguments_a_job_says_in_five_lines_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, _ = ended(monkeypatch, capsys)
    assert printed.splitlines() == [
        "trains a recipe.",
        f"needs: a recipe ({', '.join(RECIPES)})",
        "example: python -m jobs.train streets --store data/streets",
        "options: python -m jobs.train streets --help",
    ]


def test_short_help_shows_the_first_options_and_where_all_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed, _ = ended(monkeypatch, capsys, "streets", "--help", status=0)
    assert "  --loss.edge 5                   Weight of the boundary loss (paper: 20).\n" in printed
    assert "  --store                         Folder that jobs.precompute wrote, a path or URI.\n" in printed
    assert "--optimizer.lr" not in printed
    assert "options: python -m jobs.train streets --help-all" in printed
    everything, _ = ended(monkeypatch, capsys, "streets", "--help-all", status=0)
    assert "--optimizer.lr FLOAT" in everything
    for name in RECIPES:
        assert f"  {name} " in ended(monkeypatch, capsys, "--help", status=0)[0]


def test_options_of_a_config_without_names_are_read_and_refused_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doc = "python -m jobs.clean --folder /tmp/cache: cleans."
    monkeypatch.setattr(sys, "argv", ["clean.py", "--gigabytes", "5"])
    assert read(CacheConfig, doc) == CacheConfig(gigabytes=5)
    for words, expected in (
        (["--gigabytes", "-1"], "--gigabytes is -1: must be 0 or more"),
        (["--gb", "1"], "--gb is not an option"),
    ):
        monkeypatch.setattr(sys, "argv", ["clean.py", *words])
        with pytest.raises(SystemExit):
            read(CacheConfig, doc)
        assert capsys.readouterr().err.startswith(expected)


def test_a_list_with_a_wrong_value_is_shown_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["infer.py", "--scales", "1", "0.5", "x", "--flip"])
    with pytest.raises(SystemExit):
        read(InferenceConfig, "python -m jobs.infer --flip: infers.")
    assert capsys.readouterr().err == "--scales is 1 0.5 x: must be one or more values, each a number\n"


def test_required_options_that_are_missing_are_named_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(folder: str, out: str, deep: bool = False) -> tuple[str, str, bool]:
        return folder, out, deep

    doc = "python -m jobs.copy --folder a --out b: copies."
    monkeypatch.setattr(sys, "argv", ["copy.py", "--folder", "a", "--out", "b", "--deep"])
    assert read(job, doc) == ("a", "b", True)
    monkeypatch.setattr(sys, "argv", ["copy.py", "--folder", "a"])
    with pytest.raises(SystemExit):
        read(job, doc)
    assert capsys.readouterr().err == "--out is missing\nexample: python -m jobs.copy --folder a --out b\n"
