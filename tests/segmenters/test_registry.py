import dataclasses

import pytest

from segmenters import SegmenterError, load
from segmenters.fixed import Fixed


def test_a_wrong_option_names_the_options_there_are():
    names = ", ".join(field.name for field in dataclasses.fields(Fixed))
    with pytest.raises(
        SegmenterError, match=f"'fixed_v1': it has no option 'lenght'; its options are {names}"
    ):
        load("fixed_v1", lenght=3)
    with pytest.raises(SegmenterError, match="it has no option 'a'; it has no options"):
        load("reference_v1", a=1)
