import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segmenters import load
from segmenters.learned.correction.ideographs import grams, rows_of
from segmenters.learned.correction.weights_file import SHIPPED_WEIGHTS, load_weights
from segmenters.learned.networks import exact_product

MARKED = (
    "这座城市位于该国的东北部地区。它拥有超过三百万的常住人口。十九世纪末铁路建成以后，商业迅速发展起来。"
    "他于1998年毕业于北京大学。此后他在一家研究所工作了十多年。这本书共有二十章，每章都附有练习题。"
    "然而，并不是所有人都同意这种看法。我们可以用下面的方法来解决这个问题。首先，我们需要定义一个函数。"
)


def test_a_long_chinese_text_without_marks_is_split() -> None:
    sentences = [part for part in MARKED.split("。") if part]
    bare = [part.replace("，", "") for part in sentences]
    ends = set(load("learned_v2").split(["".join(bare)])[0].tolist())
    gold = set(np.cumsum(list(map(len, bare))).tolist())
    hits, chance = len(ends & gold), len(ends) * len(gold) / len("".join(bare))
    assert 3 <= len(ends) <= 20 and hits >= 3 and hits > 4 * chance


def test_with_marks_the_network_decides_nothing() -> None:
    ends = load("learned_v2").split([MARKED])[0]
    assert np.array_equal(ends, load("punctuation_v2").split([MARKED])[0])


def test_runs_of_words_are_told_apart_and_padding_has_row_0() -> None:
    word_W = np.array([0, 0, 5, 6, 7, 6, 7, 0, 0], np.uint64)
    one, two, three = grams(word_W)
    assert one[3] == one[5] and two[4] == two[6] and two[3] != two[5]
    assert three[4] != three[6] and not two[7] and not three[8]
    check_V = np.zeros(16, np.uint16)
    assert rows_of(word_W, (check_V,) * 3)[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]


def test_answers_near_a_word_depend_on_its_window_alone() -> None:
    net = load_weights(SHIPPED_WEIGHTS).unmarked.ideographs
    assert net is not None
    word_W = np.random.default_rng(0).integers(1, 2**60, 200).astype(np.uint64)
    word_W[:16] = word_W[-16:] = 0
    whole = net.logits(word_W)
    part = word_W[40:160].copy()
    part[:16] = part[-16:] = 0
    inside = slice(16 + net.reach + 2, 120 - 16 - net.reach)
    assert np.array_equal(net.logits(part)[inside], whole[40:160][inside])


@given(st.integers(0, 2**32 - 1))
def test_products_do_not_depend_on_the_order_of_their_terms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((5, 300)) * 10).astype(np.float32)
    matrix = rng.standard_normal((300, 7)).astype(np.float32)
    order = rng.permutation(300)
    found = exact_product(x, matrix)
    assert np.array_equal(found, exact_product(x[:, order], matrix[order]))
    assert np.array_equal(found[2:3], exact_product(x[2:3], matrix))
    assert np.allclose(found, x @ matrix, atol=0.2)
