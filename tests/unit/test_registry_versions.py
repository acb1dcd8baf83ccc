"""Names of versions: what they may be, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.registry.versions import highest, is_version, next_minor, version_key

# semver.org, 11: each comes before the one behind it.
ASCENDING = [
    "0.0.1-0",
    "0.0.1",
    "0.1",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.10",
    "2",
    "10.0.0",
]
IDENTIFIERS = st.one_of(
    st.integers(0, 99).map(str), st.from_regex(r"[0-9A-Za-z-]{0,4}[A-Za-z-][0-9A-Za-z-]{0,4}", fullmatch=True)
)
VERSIONS = st.builds(
    lambda numbers, before: ".".join(map(str, numbers)) + (f"-{'.'.join(before)}" if before else ""),
    st.lists(st.integers(0, 99), min_size=1, max_size=3),
    st.lists(IDENTIFIERS, max_size=3),
)


def precedence(left: str, right: str) -> int:
    """Compare as semver.org, 11, words it: -1, 0 or 1."""
    (left_release, _, left_before), (right_release, _, right_before) = left.partition("-"), right.partition("-")
    for first, second in zip(padded(left_release), padded(right_release), strict=True):
        if first != second:
            return -1 if first < second else 1
    if not left_before or not right_before:
        return (not left_before) - (not right_before)
    mine, theirs = left_before.split("."), right_before.split(".")
    for one, other in zip(mine, theirs, strict=False):
        if one == other:
            continue
        if one.isdigit() and other.isdigit():
            return -1 if int(one) < int(other) else 1
        if one.isdigit() != other.isdigit():
            return -1 if one.isdigit() else 1
        return -1 if one < other else 1
    return (len(mine) > len(theirs)) - (len(mine) < len(theirs))


def padded(release: str) -> list[int]:
    return [int(part) for part in (*release.split("."), "0", "0")][:3]


def test_order_is_that_of_the_standard() -> None:
    mixed = ASCENDING[1::2] + ASCENDING[::2]
    assert sorted(mixed, key=version_key) == ASCENDING
    assert highest(ASCENDING) == "10.0.0"
    assert highest([]) is None


@given(VERSIONS, VERSIONS)
def test_keys_compare_as_the_standard_words_it(left: str, right: str) -> None:
    one, other = version_key(left), version_key(right)
    assert (one > other) - (one < other) == precedence(left, right)


@given(st.lists(VERSIONS, min_size=1, max_size=8))
def test_next_minor_comes_after_all_and_is_a_release(versions: list[str]) -> None:
    following = next_minor(versions)
    assert all(version_key(version) < version_key(following) for version in versions)
    assert "-" not in following


@pytest.mark.parametrize(
    ("versions", "following"),
    [([], "1.0.0"), (["1"], "1.1.0"), (["1.2.3", "1.10"], "1.11.0"), (["2.0.0-rc.1"], "2.1.0"), (["0"], "0.1.0")],
)
def test_next_minor(versions: list[str], following: str) -> None:
    assert next_minor(versions) == following


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "1.",
        "01",
        "1.02",
        "1.2.3.4",
        "1.0-",
        "1.0-a..b",
        "1.0-01",
        "1.0+build",
        "-1",
        "1 ",
        "1\n",
        "champion",
        "latest",
        "1.0_0",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "1." + "0" * 70,
        "9" * 65,
    ],
)
def test_what_is_no_version(text: str) -> None:
    assert not is_version(text)
