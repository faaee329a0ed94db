from segmenters import load
from tests.segmenters.test_linear_time import ALL, RANDOM, _linear


def test_every_pattern() -> None:
    segmenter = load("learned_v2")
    own = [
        "กรุงเทพ ",
        "ประเทศไทยมีประชากรจำนวนมาก ",
        "word ",
        "Word ",
        "a1 ",
        "A.b ",
        "* A ",
        "中 ",
        "中国",
        "a, B ",
    ]
    _linear(lambda text: segmenter.split([text]), [*own, *ALL, *RANDOM])
