"""Cases for the kinds of rules that are published as golden rules of sentence splitting, by language.

A bar stands where a sentence ends. The cases are our own.
"""

import textwrap

import pytest

from segmenters.rules.segmenter import PunctuationV2

SEGMENTER = PunctuationV2()


def split(text: str) -> str:
    ends = SEGMENTER.split([text])[0]
    return "|".join(text[a:b] for a, b in zip([0, *ends], ends, strict=False))


CASES = {
    "English": [
        "Rain fell all day. |We stayed in.",
        "Is it late? |My watch stopped.",
        "It works! |Tell the others.",
        "Her name is Clara B. Novak.",
        "Open the book at p. 12.",
        "Did Anna and co. arrive in time?",
        "They bought it from Reed, Hall & Co. at noon.",
        "Let us call Anna and co. |They will know.",
        "The firm was sold to Reed, Hall & Co. |It moved last year.",
        "We climbed Mt. Hood in June.",
        "St. Mary's School is on 3rd st. near the park.",
        "This was Henry Jr.'s car.",
        "She toured the U.S.A. in spring.",
        "We live in the E.U. |How is it where you live?",
        "He was born in the U.S. |Where were you born?",
        "She joined the U.S. Army in May.",
        "He has lived in the U.S. for years.",
        "It costs $12.50 at the shop.",
        "It costs $12.50. |Take two of them.",
        "He sings (he once sang for ten years in a choir.) at the weekend.",
        "Write to jane.roe99@mail.example.org for help.",
        "Its address is: http://docs.example.org.5/path.txt. |See section two.",
        "He turned round, 'That was close.' he said.",
        "He turned round, “That was close.” he said.",
        'He turned round, "That was close." he said.',
        'He turned round, "That was close." |Then he laughed.',
        "He turned round, “That was close.” |Then he laughed.",
        "Great!! |See you soon.",
        "What?? |Who said so?",
        "Really!? |Are you sure?",
        "Really?! |Are you sure?",
        "1.) Peel the apples |2.) Cut them",
        "1.) Peel the apples. |2.) Cut them.",
        "1) Peel the apples |2) Cut them",
        "1) Peel the apples. |2) Cut them.",
        "1. Peel the apples |2. Cut them",
        "1. Peel the apples. |2. Cut them.",
        "• 3. Peel the apples |• 4. Cut them",
        "⁃3. Peel the apples |⁃4. Cut them",
        "a. Peel the apples |b. Cut them |c. Cook them",
        "It is filed under N°. 204.118. |There it rests.",
        "She writes for Yahoo! about cars.",
        "We are a good team, she and I. |Have you met Karl V. Braun?",
        "He claims that “each rule has its exception. . . .”",
        '"Grey [...] calls it a mirror of the age [...]" (Lund 71).',
        "Leave out the words and mark the gap with points . . . . |Then go on.",
        "I did not say that.... |He left the room.",
        "I was ... well, I mean ... you see . . . I did not know . . . sorry.",
        "The habit was weakened . . . and forgotten in the end. . . . |Nobody misses it. . . .",
        "It was a long \nroad to the sea.",
        "It was a long\nroad to the sea.",
        "apples\n|pears and plums\n|two loaves of bread\n",
        "It rose by 3.5 percent. |The index stood at 1,204.7 points.",
        "Use version 2.0.1. |It fixes setup.py and main.c files.",
        "See www.example.com. |Then write.",
        "The file report_v2.final.docx is here. |Open it.",
        "He is, e.g. on Mondays, late.",
        "Dr. Lee met Prof. Kim and Gen. Orr.",
        "Cf. Smith et al. 2004. |They agree.",
        "We met on Jan. 5. |On Feb. 7 we met again.",
        "They sell tea, coffee, etc. |The shop is small.",
        "They sell tea, etc. in the shop.",
        "J. R. R. Tolkien wrote it.",
        "He said no. |Then he left.",
        '"Stop!" she cried. |"Why?" he asked.',
        "“Stop!” she cried. |“Why?” he asked.",
        "Hello to you, world.|Today is the day.",
        "She got it in the end.[3] |He did not.[4][5] |Who knows?",
        "He left. [12] |She stayed.",
        "Nice work :) |Thanks a lot!",
        "I agree. :) |You too?",
        "We won! 😀 |They lost.",
    ],
    "no final mark": [
        "The old man and the sea",
        "Dr. Smith and Mr. Jones",
        "the price of 3.5 units vs. 4",
    ],
    "German": [
        "Am 3. Mai 1998 fiel Regen. |Der 2. Weltkrieg endete 1945. |Danach kam Ruhe.",
        "Das gilt z. B. für Hunde, d. h. für alle. |Gut.",
        "Das gilt z.B. für Hunde usw. |Alle wissen das.",
        "Er wohnt in der Hauptstr. 12. |Sie wohnt in Nr. 14.",
        "Er sagte: „Ich komme.“ |Dann ging er.",
        "„Kommst du?“, fragte sie. |„Ja.“",
        "Heinrich VIII. von England starb. |Er war König.",
        "Ca. 3,5 Mio. Euro kostet das. |Zu viel.",
        "Das war im 19. Jahrhundert. |Vor 1900.",
        "Siehe Abs. 2 des Art. 5 GG. |Er gilt.",
        "Die GmbH & Co. KG zahlt. |Sie hat Geld.",
    ],
    "French": [
        "M. Dupont est là. |Mme Roy aussi.",
        "« Venez-vous ? » demanda-t-il. |Elle dit non.",
        "Il a dit : « Je viens. » |Puis il partit.",
        "Il coûte 3,50 €. |C'est cher !",
        "Ils sont sept. |Puis il pleut.",
        "Rome fut fondée en 753 av. J.-C. |C'est loin.",
    ],
    "Spanish": [
        "¿Qué hora es? |¡Es tarde! |Vamos.",
        "El Sr. García y la Dra. Ruiz viven en EE.UU. desde 2001. |Son felices.",
        "—¿Vienes? —preguntó Ana. |—No.",
        "Véase la pág. 12. |Allí está.",
    ],
    "Italian": [
        "Costa 1.200,50 euro. |È troppo, ecc. |Lo so.",
    ],
    "Portuguese": [
        "O Sr. Silva e a Dra. Costa vivem na Av. Central. |É longe.",
    ],
    "Dutch": [
        "Dat is bijv. een hond. |Hij heet a.u.b. niet zo. |Dr. De Vries weet het.",
    ],
    "Polish": [
        "Prof. Nowak mieszka przy ul. Długiej 5. |Ma np. psa. |To było w 2005 r. |Potem wyjechał.",
    ],
    "Russian": [
        "Это г. Москва, ул. Ленина, д. 5. |Там живёт А. С. Пушкин. ",
        "В 1812 г. началась война. |Она шла долго и т. д. |Потом был мир.",
        "Он заплатил 5 тыс. рублей. |Это много.",
        "— Ты идёшь? — спросил он. |— Нет.",
        "«Ты идёшь?» — спросил он. |Она молчала.",
    ],
    "Ukrainian": [
        "Це м. Київ, вул. Франка, буд. 5. |Там живе Т. Г. Шевченко.",
    ],
    "Czech": [
        "Dne 3. května 1998 pršelo. |To bylo např. v Brně, tzv. na Moravě.",
    ],
    "Croatian": [
        "Rođen je 1986. godine u Splitu. |Umro je 2001. |Bio je star.",
    ],
    "Turkish": [
        "Bunu Prof. Dr. Demir söyledi. |19. yüzyılda oldu. |Gitti.",
    ],
    "Finnish": [
        "Se tapahtui 3. toukokuuta 1998. |Silloin satoi esim. lunta jne. |Tuli kevät.",
    ],
    "Danish, Swedish": [
        "Det er f.eks. en hund. |Han kom d. 3. maj. |Det var kl. 12.",
        "Det är t.ex. en hund, bl.a. Hugo. |Han kom den 3 maj osv. |Sedan gick han.",
    ],
    "Greek": [
        "Πού είσαι; |Είμαι εδώ. |Καλά!",
    ],
    "Armenian": [
        "Նա եկավ: |Ո՞վ է նա։ |Ես գիտեմ:",
    ],
    "Hindi, Bengali": [
        "यह एक घर है। |वह कौन है? |डॉ. शर्मा आए।",
        "এটি একটি বাড়ি। |কে সে?",
    ],
    "Urdu, Arabic, Persian, Hebrew": [
        "یہ گھر ہے۔ |وہ کون ہے؟ |وہ آیا۔",
        "هذا بيت. |من هو؟ |لا أعرف!",
        "این خانه است. |او کیست؟",
        "זה בית. |מי הוא? |אני לא יודע.",
    ],
    "Ethiopic": [
        "ይህ ቤት ነው። |ማን ነው? |አላውቅም፡፡ |እሺ።",
    ],
    "Burmese, Khmer, Tibetan": [
        "ဒါက အိမ်ဖြစ်တယ်။|သူဘယ်သူလဲ။|ကျွန်တော်မသိဘူး။",
        "នេះជាផ្ទះ។|តើគាត់ជានរណា?|ខ្ញុំមិនដឹងទេ។",
        "བཀྲ་ཤིས། |བདེ་ལེགས། །|ཡིན།",
    ],
    "Chinese": [
        "这是一座房子。|他是谁？|我不知道！",
        "他说：“我来了。”|然后他走了。",
        "圆周率约为3.14。|它是无理数。",
    ],
    "Japanese": [
        "これは家です。|彼は誰ですか？|知りません！",
        "「行きますか？」と彼は聞いた。|彼女は笑った。",
        "値は３．１４です。|小さい。",
        "犯罪だ!|本当か?|そうだ。",
    ],
    "Korean": [
        "이것은 집입니다. |그는 누구입니까? |모릅니다!",
        '그는 "갑니다."라고 말했다. |그녀는 웃었다.',
        "맛있어요 |또 올게요 |감사합니다",
        "「안녕하세요.」 |그가 말했다.",
    ],
    "Bulgarian": [
        "Това е г-н Иванов от гр. София. |Той е тук.",
    ],
}


@pytest.mark.parametrize(
    "bars", [pytest.param(bars, id=f"{name}-{bars[:30]}") for name in CASES for bars in CASES[name]]
)
def test_splits(bars: str) -> None:
    assert split(bars.replace("|", "")) == bars


MISSES = {
    "At 7 a.m. Mr. Hall left. |He was back at 9 p.m. |Mrs. Hall slept.": "only the meaning tells the two apart",
    "Il sig. Bianchi è qui.": "`sig` ends sentences in Danish and Norwegian",
    "Er ist am 3. |Sie ist am 4. dran.": "a number after `am` is an ordinal",
    "วันนี้ฝนตก |พรุ่งนี้แดดออก": "Thai marks sentences by spaces alone, and has spaces inside them too",
    "今天下雨我们在家|明天出去": "without marks, only the meaning tells",
}
"""Cases that the rule misses, and why."""


@pytest.mark.parametrize("bars", MISSES)
@pytest.mark.xfail(strict=True, reason="known misses of a rule")
def test_known_misses(bars: str) -> None:
    assert split(bars.replace("|", "")) == bars


PARAGRAPHS = (
    "The ship had left the harbour in the morning, and nobody on board knew where Captain Alvarez was going to take "
    "them. He had said nothing. Mr. Osei asked him twice, on Monday and on Tuesday, and got no answer. Then the wind "
    "turned to the north.",
    "In the second week they saw land. It was the coast of Norway, as Dr. Lindqvist had said from the start, and 12 of "
    "the men wanted to go ashore. The others stayed. Nobody spoke of Alvarez any more, e.g. at dinner.",
)


@pytest.mark.parametrize("width", [48, 60, 72, 80, 100])
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_hard_wrapped_paragraphs_are_split_as_unwrapped_ones(width: int, between: str) -> None:
    plain = [one.split() for one in split(between.join(PARAGRAPHS)).split("|")]
    wrapped = between.join("\n".join(textwrap.wrap(paragraph, width)) for paragraph in PARAGRAPHS)
    found = split(wrapped)
    assert [one.split() for one in found.split("|")] == plain
    assert split(wrapped.replace("\n", "\r\n")) == found.replace("\n", "\r\n")


def test_short_lines_are_not_taken_for_wrapped_ones() -> None:
    poem = "Roses are red in June\n|Violets bloom in May\n|Nobody comes too soon\n|Everyone goes away"
    heads = "A Title of the Page\n|Some more words here\n|By Ann Other"
    for bars in (poem, heads):
        assert split(bars.replace("|", "")) == bars
