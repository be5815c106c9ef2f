"""Names of flow runs that can be said aloud: the same for ever, and not to be mistaken for each other."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from durable import flow
from durable.runtime import flow_run
from durable.spoken import ADJECTIVES, NOUNS, digits_of, spoken

LISTS = [pytest.param(ADJECTIVES, id="adjectives"), pytest.param(NOUNS, id="nouns")]
ALIKE = [
    ("ph", "f"), ("ck", "k"), ("qu", "kw"), ("x", "ks"), ("wh", "w"), ("wr", "r"), ("kn", "n"), ("gh", ""),
    ("ee", "i"), ("ea", "i"), ("ie", "i"), ("y", "i"), ("oo", "u"), ("ou", "u"), ("ai", "e"), ("ei", "e"),
]  # fmt: skip


def test_the_names_are_the_recorded_ones():
    """A difference renames every run there is: people have these names in their notes."""
    assert xxh3_128_hexdigest(" ".join(ADJECTIVES).encode()) == "4fee3528cfa988cf59b00cfcde9582f8"
    assert xxh3_128_hexdigest(" ".join(NOUNS).encode()) == "c9a878357b982eca20e523852d9aff60"
    assert [
        spoken(bytes.fromhex(digits) + bytes(14)) for digits in ("0000", "0001", "0100", "ffff", "7f3a", "5c05")
    ] == [
        "able-acorn",
        "able-agate",
        "active-acorn",
        "zesty-zenith",
        "maple-compass",
        "great-ammonite",
    ]


@given(st.binary(min_size=16, max_size=16))
def test_a_name_says_the_first_digits_of_the_id(key):
    assert digits_of(spoken(key)) == key.hex()[:4]
    assert digits_of(f" {spoken(key).upper()}\n") == key.hex()[:4]


@pytest.mark.parametrize(
    "text", ["", "-", "great", "great-", "-ammonite", "ammonite-great", "great-ammonite-1", "7f3a"]
)
def test_what_is_no_such_name_says_nothing(text):
    assert digits_of(text) is None


@pytest.mark.parametrize("words", LISTS)
def test_there_is_a_word_for_each_byte_short_plain_and_in_order(words):
    assert len(set(words)) == len(words) == 256
    assert list(words) == sorted(words)
    assert all(re.fullmatch("[a-z]{3,9}", word) for word in words)
    assert not set(ADJECTIVES) & set(NOUNS)


def distance(one, other):
    """How many letters are to be typed otherwise."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        before, row = row, [number]
        for place, wanted in enumerate(other):
            row.append(min(before[place + 1] + 1, row[place] + 1, before[place] + (letter != wanted)))
    return row[-1]


def sound(word):
    """A word as it sounds, roughly: enough to find those that sound alike."""
    for letters, same in ALIKE:
        word = word.replace(letters, same)
    word = re.sub("c(?=[ei])", "s", word).replace("c", "k").replace("z", "s")
    word = re.sub(r"(.)\1", r"\1", word)
    return word.removesuffix("e") if len(word) > 3 else word


@pytest.mark.parametrize("words", LISTS)
def test_no_two_words_differ_by_a_letter_or_by_a_sound_alone(words):
    for one, other in itertools.combinations(words, 2):
        assert distance(one, other) > 1, (one, other)
        assert distance(sound(one), sound(other)) > 1, (one, other)


def test_a_flow_run_is_called_by_its_id_unless_it_has_a_name(journal):
    @flow
    def job():
        return flow_run.name, flow_run.id

    name, key = job()
    assert name == spoken(bytes.fromhex(key))
    assert job.with_options(flow_run_name="mine")()[0] == "mine"
