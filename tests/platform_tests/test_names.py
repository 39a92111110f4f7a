"""Names, checked with the systems that they are written for: MLflow's own checks, SQLAlchemy, matplotlib."""

import warnings
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import _validate_metric, _validate_model_name
from sqlalchemy.engine import make_url

from gscnn_platform import names
from gscnn_platform.names import NamingError

CLASSES = [
    "road (paved)",
    "tree & bush",
    "car/van",
    "person, sitting",
    "Straße",
    "50% grey",
    "sign [front]",
    "a=b",
    "pole: thin",
    "pole:colon: thin",
    "道路",
    "é",
    "e\u0301",
    "..",
    "a/../b",
    "a//b",
    "/",
    "a/",
    " ",
    "x\ny",
    "\U0001f600",
    "both ' and \"",
    "C:\\",
    "a:x28:b",
    "a(b",
    "n" * 300,
    "n" * 301,
    "%" * 80,
]


@pytest.mark.parametrize("name", ["baseline", "lr 0.05", "a+b=c,d@e", "Straße_1.2", "道路", "u\u0308ber", "x" * 200])
def test_a_name_that_works_everywhere_is_accepted_unchanged(name: str, tmp_path: Path) -> None:
    assert names.check_name(name, "--run-name") == name
    (tmp_path / name).mkdir()
    _validate_model_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "  ",
            "../outside",
            "exp/lr",
            "..",
            ".hidden",
            "-x",
            "a\nb",
            "a\x00",
            "C:\\x",
            "a%b",
            "a?b",
            "a#b",
            "o'brien",
        ),
        *(
            "x" * 201,
            "ß" * 101,
            "mlartifacts",
            "mlflow.db",
            "mlflow.db.lock",
            "evaluation",
            "end.",
            "end ",
            "a:b",
            "a*",
        ),
    ],
)
def test_a_name_unfit_for_a_folder_or_url_is_rejected_with_the_allowed_characters(name: str) -> None:
    with pytest.raises(NamingError, match=r"--run-name .* cannot be used: ") as refused:
        names.check_name(name, "--run-name")
    assert "Allowed are letters, digits, spaces and _ - . + = , @" in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 501])
def test_an_experiment_may_have_any_printable_name(name: str) -> None:
    assert names.check_experiment("o'brien/50% [x]", "--tracking.experiment") == "o'brien/50% [x]"
    with pytest.raises(NamingError, match=r"--tracking\.experiment"):
        names.check_experiment(name, "--tracking.experiment")


@pytest.mark.parametrize("name", CLASSES)
def test_mlflow_accepts_the_key_of_any_class(name: str) -> None:
    key = names.metric_key(f"val_iou/{name}")
    _validate_metric(key, 0.5, 0, 0)
    if len(name) < 80:
        assert names.original_key(key) == f"val_iou/{name}"


def test_keys_of_different_classes_differ_and_plain_keys_are_unchanged() -> None:
    keys = {names.metric_key(f"val_iou/{name}") for name in CLASSES}
    assert len(keys) == len(CLASSES)
    assert names.metric_key("val_iou/road (paved)") == "val_iou/road :lpar:paved:rpar:"
    for plain in ("val/boundary_f_3px_present", "val_iou/car/van", "val_iou/Straße", "train/lr"):
        assert names.metric_key(plain) == names.original_key(plain) == plain
    assert names.original_key("val_iou/pole: thin") == "val_iou/pole: thin", "as earlier versions tracked it"
    assert names.original_key("a:nothing:b:xfffffff:c") == "a:nothing:b:xfffffff:c"


@pytest.mark.parametrize("text", ["plain", "o'brien", 'a"b', "both ' and \"", "50%_x", "back\\", "a;b", "道路"])
def test_a_filter_accepts_any_text_and_its_pattern_matches_it(text: str) -> None:
    [clause] = SearchUtils.parse_search_filter(f"attributes.run_name LIKE {names.filter_pattern(text)}")
    assert clause["comparator"] == "LIKE"
    assert SearchUtils.get_comparison_func("LIKE")(text, clause["value"])
    assert not SearchUtils.get_comparison_func("LIKE")(f"{text} and more", clause["value"])


@pytest.mark.parametrize("folder", ["a b", "o'brien", "what? now", "50% #x", "a%20b", 'q"x', "Straße", "a&b=c", "x;y"])
def test_a_sqlite_uri_leads_to_its_file_whatever_the_folders_name(folder: str) -> None:
    database = Path("/runs") / folder / "mlflow.db"
    uri = names.sqlite_uri(database)
    assert make_url(uri).database == str(database)
    assert make_url(uri).query == {}
    assert names.sqlite_path(uri) == database


def test_other_uris_have_no_file() -> None:
    assert names.sqlite_path("http://host:5000") is None
    assert names.sqlite_path("sqlite:///runs/mlflow.db") == Path("runs/mlflow.db")


@pytest.mark.parametrize("text", ["../a b?#.html", "...", "", "x" * 500, "道" * 200])
def test_any_text_becomes_a_file_name(text: str, tmp_path: Path) -> None:
    name = names.file_name(text)
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not set("/?#%\\ ") & set(name)


def test_long_texts_that_differ_at_their_end_get_different_file_names_and_three_of_them_fit_one() -> None:
    parts = [names.file_name(f"{'x' * 200} {end}") for end in ("a1b2c3", "d4e5f6", "a1b2c3")]
    assert parts[0] == parts[2] != parts[1]
    assert len("-vs-".join(parts).encode()) < 240


@pytest.mark.parametrize("text", ["a $x$ b", "$", r"\$5 and $6$", "_hidden", "50% ^_{", "$^_{$", "plain"])
def test_matplotlib_draws_any_text_as_it_is(text: str) -> None:
    shown = names.picture_text(text)
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=shown)
    axes.set_title(shown)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        legend = figure.legend()
        FigureCanvasAgg(figure).draw()
    [entry] = legend.get_texts()
    assert "$" not in entry.get_text().replace(r"\$", "")
    assert entry.get_text().strip("\N{HAIR SPACE}").replace(r"\$", "$") == text


def test_similar_names_are_suggested() -> None:
    assert names.near_misses("val/miuo", ["val/miou", "val/pixel_accuracy"]) == "; did you mean val/miou?"
    assert names.near_misses("zzz", ["val/miou"]) == ""


def test_markdown_keeps_text_in_its_cell() -> None:
    assert names.markdown("a|b [x](y)\n_z_") == r"a\|b \[x\]\(y\) \_z\_"
