from segmenters import load

FIRST = "ประเทศไทยมีประชากรมากกว่าหกสิบล้านคนในปัจจุบัน"
SECOND = "กรุงเทพมหานครเป็นเมืองหลวงและเมืองที่ใหญ่ที่สุด"


def ends(text: str) -> list[int]:
    return load("learned_v2").split([text])[0].tolist()


def test_a_space_between_long_clauses_ends_a_sentence() -> None:
    assert ends(f"{FIRST} {SECOND}") == [len(FIRST) + 1, len(FIRST) + len(SECOND) + 1]


def test_no_sentence_ends_before_a_conjunction_or_beside_a_number() -> None:
    for text in (f"{FIRST} และ{SECOND}", f"{FIRST}ว่า {SECOND}", f"{FIRST} 20 {SECOND}", f"{FIRST} คน"):
        assert ends(text) == [len(text)]
