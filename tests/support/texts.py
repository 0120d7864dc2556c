"""Texts that tokenizers get wrong, and text made at random: the same on every run and every machine."""

from __future__ import annotations

import base64
import random

SPACE = "\u2581"

ALPHABETS = {
    "latin": "etaoinshrdlucmfwypvbgkjqxz",
    "cyrillic": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωάέή",
    "thai": "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศษสหอะาิีึืุูเแโใไ่้๊๋์",
    "cjk": "的一是不了人我在有他这中大来上国日月火水木金土語文字漢東京学校先生食飲行見聞",
    "kana": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほアイウエオカキクケコ",
    "hangul": "가나다라마바사아자차카타파하각난닫랄맘밥삿앙잦찿",
    "jamo": "".join(map(chr, [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)])),
    "deseret": "".join(map(chr, range(0x10400, 0x10450))),
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي\u064b\u064e\u0651",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת\u05b0\u05b8",
    "devanagari": "कखगघचछजझटठडतथदधनपफबभमयरलवशसह\u093e\u093f\u0940\u0941\u094d\u0902",
    "emoji": "😀😁🦙🎉🔥❤️👍🏽👩\u200d👩\u200d👧\u200d👦🇩🇪🇯🇵🏴\u200d☠️",
    "combining": "aeioun\u0300\u0301\u0302\u0303\u0308\u0323\u0327\u20dd",
    "digits": "0123456789",
    "wide": "ＡＢＣａｂｃ１２３ｱｲｳｶﾞ㈱㍿ﬁﬂ½²Ⅳ…",
    "marks": ".,;:!?-_=+*/\\|()[]{}<>\"'`~@#$%^&",
    "controls": "\0\x01\x02\t\n\x0b\x0c\r\x1b\x7f\x80\x85\x9f\u00ad\u200b\u200e\u2028\u2029\ufeff",
    "spaces": f"  \u00a0\u1680\u2002\u2003\u2009\u202f\u205f\u3000{SPACE}",
    "private": "\ue000\uf8ff\U000f0000\U0010fffd\ufffd\ufffe\uffff\ud7ff",
}

PIECE_NAMES = (
    "<s>", "</s>", "<unk>", "<pad>", "<0x0A>", "<0x00>", "<0xFF>", "<0x0a>", "<0x0A", "a<s>b", "<s><s>",
    " <s> ", "</s>\n<s>", "<unk>x<unk>", "<0xE2><0x96><0x81>", "[INST] hi [/INST]", "<s>[INST] <<SYS>>\n",
    f"{SPACE}<s>", "<ctrl>", "<ctrl>a<ctrl>", "<sep>", "a<sep>b", "<sep><sep>", "<se", "foo bar",
    f"foo{SPACE}bar", "foo barbaz",
)  # fmt: skip


def _space_runs() -> list[str]:
    texts = [" " * n for n in range(41)]
    for n in range(41):
        run = " " * n
        texts += [
            run + "x",
            "x" + run,
            f"x{run}y",
            f"the{run}cat{run}sat",
            f"{run}\n{run}",
            f"1{run}2",
            f".{run}é",
        ]
    for n in (1, 2, 3, 5, 16, 17, 33):
        run = SPACE * n
        texts += [run, run + "x", "x" + run, f"x{run}y", f" {run} ", f"{run} {run}", f"x {run}y", f"x{run} y"]
    texts += [f"{' ' * a}{SPACE * b}{' ' * c}z" for a in range(4) for b in range(4) for c in range(4)]
    return texts


def _handmade() -> list[str]:
    texts = [
        "",
        "a",
        " a",
        "a ",
        "Hello world",
        "Hello  world",
        "Hello, y'all! How are you 😁 ?",
        "été",
        "e\u0301te\u0301",
    ]
    texts += [
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\n\n\n",
        "\t\t\t x",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a \n b",
        " \n ",
        "\n a",
        "a\n",
    ]
    texts += [
        "\0",
        "a\0b",
        "\0\0",
        " \0 ",
        "\x01\x02",
        "\x7f",
        "\x85",
        "\u00a0",
        "a\u00a0b",
        "\u00a0\u00a0 x",
    ]
    texts += [
        "\u3000",
        "a\u3000b",
        "\u3000 \u3000",
        "\u200b",
        "a\u200bb",
        "\ufeffa",
        "a\ufeff",
        "\u2028\u2029",
        "\u00ad",
    ]
    texts += ["👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪🇯🇵", "❤️", "🦙🦙", "a🦙b", "x\u200dy"]
    texts += [
        "a\u0301\u0302\u0323b",
        "\u0301",
        " \u0301a",
        "n\u0303" * 20,
        "\u0344",
        "q\u0323\u0307",
        "q\u0307\u0323",
    ]
    texts += ["각", "\u1100\u1161\u11a8", "\u1112\u1161\u11ab글", "한국어 텍스트"]
    texts += ["שלום עולם", "مرحبا بالعالم", "abc \u202eدrev\u202c def", "\u200f\u200e", "اَلْعَرَبِيَّةُ"]
    texts += [
        "\ud7ff\ue000",
        "\U00010000",
        "\U0010ffff",
        "\U000e0001",
        "\uf8ff",
        "\ufffd",
        "a\ufffdb",
        "\ufffe\uffff",
    ]
    texts += [
        "𐐀𐐁𐐂 𐐨𐐩",
        "𝕳𝖊𝖑𝖑𝖔",
        "ﬁnancial ﬂow",
        "Ⅳ ½ ² ㍿ ㈱",
        "ｱｲｳｶﾞ",
        "ＡＢＣ　ａｂｃ",
        "ß ẞ İ ı ŉ ǆ",
        "Å Å Å",
    ]
    texts += [
        "日本語のテキスト",
        "我能吞下玻璃而不伤身体",
        "สวัสดีชาวโลก",
        "नमस्ते दुनिया",
        "ქართული",
        "መረጃ",
        "ᚠᛇᚻ᛫ᛒᛦᚦ",
    ]
    texts += [
        "1234567890",
        "3.14159",
        "1,000,000",
        "2026-11-21T08:15:00Z",
        "0x1F",
        "१२३",
        "٠١٢",
        "1a2b3c",
        "v1.2.3-rc4",
    ]
    texts += [
        "def f(x):\n    return x ** 2  # square\n",
        "if (a && b) {\n\treturn;\n}\n",
        "<a href='x'>y</a>",
        "a_b__c___d",
    ]
    texts += [
        "camelCaseHTTPServer",
        "SCREAMING_SNAKE",
        "don't can't I'm",
        "“quoted” — dash…",
        "http://example.org/a?b=c&d",
    ]
    texts += [
        "=-" * 200,
        "-" * 77,
        "=" * 1000,
        "ab" * 333,
        "aab" * 200,
        "." * 65,
        "!?" * 50,
        "\n" * 100,
        "\t" * 33,
    ]
    texts += [
        "the the the the",
        "AAAaaaAAA",
        "ababcabcdabcde",
        "mississippi" * 9,
        "loooooooooool",
        "hahahahahaha",
    ]
    texts += ["x" * n for n in (2, 3, 5, 8, 17, 64, 255)]
    texts += ["q" * n for n in (2, 3, 50, 99, 100, 101, 102, 103, 129, 130, 131, 132, 261, 1_000)]
    texts += ["AB", "ABC", "AAB", "XYZ", "xx yy", "a--b", "q\u00b7q", "\u2460\u2461"]
    return texts


def _long_words() -> list[str]:
    rng = random.Random(3)
    texts = [letter * 10_000 for letter in "aeé漢 \n🦙"]
    texts += [
        SPACE * 2_000,
        "ab" * 5_000,
        "".join(rng.choices("ab", k=5_000)),
        "".join(rng.choices("abcdefgh", k=5_000)),
    ]
    blob = rng.randbytes(3_000)
    texts += [
        base64.b64encode(blob).decode(),
        blob.hex(),
        blob.hex().upper(),
        "".join(rng.choices("0123456789", k=3_000)),
    ]
    texts += [
        "".join(rng.choices(ALPHABETS["cjk"], k=3_000)),
        "".join(rng.choices(ALPHABETS["thai"], k=3_000)),
    ]
    return texts


def tricky() -> list[str]:
    """The fixed list of difficult texts, without repetition."""
    pairs = [f"{a}{b}{a}" for a in PIECE_NAMES for b in ("", " ", "x", "\n")]
    return list(dict.fromkeys([*_handmade(), *PIECE_NAMES, *pairs, *_space_runs(), *_long_words()]))


INVALID_UTF8 = (
    b"\xff", b"\xfe\xff", b"a\xffb", b"\xc0\x80", b"\xe2\x82", b"\xe2\x82\xac\xff", b"\xf0\x9f\xa6",
    b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80",
    b"\xbf\xbf", b"a\xe2b", b"\xe2\x96a", b" \xff \xff ", b"\xffx\xff  y", b"ok \xc3", b"\xc3\xa9\xc3",
    b"\xe2\x96\x81\xff", b"\xff" * 50, b"\x00\xff\x00", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf",
    b"<s>\xff</s>", b"\xf0\x9f\xa6\x99\xf0\x9f", b"\xef\xbf\xbd\xef\xbf",
)  # fmt: skip


def random_text(rng: random.Random, length: int) -> str:
    """Runs of letters of random alphabets, separated by anything."""
    parts: list[str] = []
    names = list(ALPHABETS)
    while sum(map(len, parts)) < length:
        alphabet = ALPHABETS[rng.choice(names)]
        parts.append("".join(rng.choices(alphabet, k=rng.choice((1, 1, 2, 3, 5, 8, 13)))))
        parts.append(rng.choice((" ", " ", " ", "", "", "  ", "\n", "   ", SPACE)))
    return "".join(parts)[:length]


def random_texts(seed: int, count: int) -> list[str]:
    """Random texts of mixed length."""
    rng = random.Random(seed)
    return [random_text(rng, rng.choice((3, 10, 30, 100, 300))) for _ in range(count)]


def random_bytes(seed: int, count: int) -> list[bytes]:
    """Byte strings that are almost UTF-8: valid text with bytes changed, cut out or put in."""
    rng = random.Random(seed)
    result = []
    for _ in range(count):
        data = bytearray(random_text(rng, rng.choice((3, 10, 40))).encode())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(2)] = rng.randbytes(rng.randrange(2))
        result.append(bytes(data))
    return result


def training_text(seed: int, lines: int, alphabets: tuple[str, ...] = ("latin",)) -> list[str]:
    """Lines of invented words, the common ones common: enough structure for merges to form at all depths.

    Words are made of syllables and syllables of few letters, so that pieces overlap in many ways; a line in
    eight comes from the fixed list, where only ASCII letters are in it.
    """
    rng = random.Random(seed)
    words: list[str] = []
    for name in alphabets:
        letters = ALPHABETS[name]
        syllables = ["".join(rng.choices(letters, k=rng.choice((1, 2, 2, 3)))) for _ in range(60)]
        words += ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 3, 4)))) for _ in range(400)]
        words += ["".join(rng.choices(letters[:5], k=rng.randrange(1, 7))) for _ in range(200)]
    rng.shuffle(words)
    weights = [1 / (rank + 20) for rank in range(len(words))]
    handmade = [
        t for t in (*_handmade(), *_space_runs()) if t.isascii() and t.isprintable() and 0 < len(t) < 90
    ]
    result = []
    for number in range(lines):
        line = rng.choices(words, weights, k=rng.randrange(3, 14))
        if number % 5 == 0:
            line.insert(1, str(rng.randrange(10 ** rng.randrange(1, 6))))
        if number % 3 == 0:
            line[0] = line[0].capitalize()
        joint = rng.choices((" ", "  ", "    ", ", ", "-", "_", "("), (60, 4, 3, 9, 2, 1, 1), k=1)[0]
        ending = rng.choice((".", "!", "", "?", ";", " "))
        result.append(rng.choice(handmade) if number % 8 == 0 else joint.join(line) + ending)
    return result


def familiar(seed: int, alphabets: tuple[str, ...], count: int = 40) -> list[str]:
    """Lines as a model trained on `training_text` of this seed knows them, and as worn ones."""
    lines = training_text(seed, count, alphabets)
    rng = random.Random(seed + 1)
    worn = []
    for line in lines:
        kept = [letter * rng.choices((0, 1, 2), (1, 12, 1), k=1)[0] for letter in line]
        worn.append("".join(kept))
    return [*lines, *worn, "\n".join(lines), "".join(worn)]
