from segmenters.reference import Reference


def test_splits_after_all_punctuation_without_loss() -> None:
    text = 'It is 3.14, "so to say".\nWell；好。 rest'
    ends = Reference().split([text])[0]
    parts = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert parts == ["It is 3.", '14, "', 'so to say".\n', "Well；", "好。 ", "rest"]
