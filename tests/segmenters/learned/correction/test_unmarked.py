from segmenters import load

BARE = (
    "i went to the store to buy some milk and then i came home because it was raining so hard outside "
    "she said that she would call me later today but i do not think that she will do it "
    "we are going to the beach next week if the weather is good and you can come with us if you like"
)


def count(text: str) -> int:
    return len(load("learned_v2").split([text])[0])


def test_a_long_text_without_marks_is_split() -> None:
    assert count(BARE) >= 2


def test_a_sentence_without_its_final_mark_is_not() -> None:
    assert count(BARE[:96].strip()) == 1
    assert count("I" + BARE[1:]) == 1  # with a capital it may be one sentence of usual text


def test_chinese_without_a_comma_is_not_split_early() -> None:
    assert count("该城市位于该国的东北部地区并且拥有超过三百万的常住人口和悠久的历史文化传统") == 1
