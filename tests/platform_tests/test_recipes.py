import pytest

from gscnn_platform.recipes import CAMVID_TINY, recipe_named


def test_a_recipe_is_found_by_its_name() -> None:
    assert recipe_named("camvid-tiny") is CAMVID_TINY


def test_an_unknown_recipe_is_refused_with_those_that_there_are_and_the_similar_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^there is no recipe camvid-tny; there are: streets, streets-deeplab, "
    ) as error:
        recipe_named("camvid-tny")
    assert str(error.value).endswith("\ndid you mean camvid-tiny or camvid?")
