"""The chain of sealed changes shows what was altered, taken out, put in between or cut off."""

from functools import partial
from pathlib import Path

import pytest
from tocsin.detector.audit_chain import Gap, follow
from tocsin.detector.seals import FIRST, Entry, Verify, last_link, seal
from tocsin.models import signing


class Keys:
    """Two people who publish, both trusted, and a stranger."""

    def __init__(self, folder: Path) -> None:
        made = [signing.ensure_pair(folder / name / "key.pem")[0] for name in ("ada", "bob", "eve")]
        self.ada, self.bob, self.eve = (partial(signing.sign, one) for one in made)
        self.signers = made

    def trusting(self, *numbers: int) -> Verify:
        keys = [signing.trust(self.signers[number]) for number in numbers]
        return lambda data, signature, what: signing.verify(data, signature, keys, what)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def topic(keys: Keys) -> list[Entry]:
    """Five sealed changes of two writers, an unsigned one between them, and gaps in the offsets."""
    found: list[Entry] = []
    both = keys.trusting(0, 1)
    for version, sign in (
        (0, keys.ada),
        (1, keys.bob),
        (4, keys.ada),
        (5, None),
        (6, keys.bob),
        (9, keys.ada),
    ):
        value = b"change %d" % version
        headers = [] if sign is None else seal("s", version, last_link("s", found, both), value, sign)
        found.append(Entry(version, value, headers))
    return found


def test_what_several_writers_signed_is_one_chain(keys: Keys, topic: list[Entry]) -> None:
    both = keys.trusting(0, 1)
    chain = follow("s", topic, both, applied={0: "hosts/0", 9: "hosts/1"})
    assert (chain.sealed, chain.unsealed, chain.head, chain.gaps) == (5, [5], 9, [])
    assert chain.link == last_link("s", topic, both) != FIRST
    noted = follow("s", topic[:3], both).link
    assert follow("s", topic, both, noted=noted).gaps == []
    assert follow("s", [], both).gaps == []
    assert follow("other", topic, both).sealed == 0


@pytest.mark.parametrize(("gone", "where", "before"), [(0, 1, -1), (1, 4, 0), (4, 6, 1), (6, 9, 4)])
def test_what_is_taken_out_or_altered_shows(
    keys: Keys, topic: list[Entry], gone: int, where: int, before: int
) -> None:
    both = keys.trusting(0, 1)
    stands = "no change" if before < 0 else f"change {before}"
    gap = Gap(where, f"follows a signed change that is not there, where {stands} stands before it")
    assert follow("s", [one for one in topic if one.version != gone], both).gaps == [gap]
    altered = [one._replace(value=b"else") if one.version == gone else one for one in topic]
    assert follow("s", altered, both).gaps == [gap]
    assert gone in follow("s", altered, both).unsealed


def test_what_is_cut_off_shows_by_who_applied_it_and_by_a_link_that_was_noted(
    keys: Keys, topic: list[Entry]
) -> None:
    both = keys.trusting(0, 1)
    link, rest = follow("s", topic, both).link, topic[:-1]
    assert follow("s", rest, both).gaps == []
    (gap,) = follow("s", rest, both, applied={6: "hosts/0", 9: "hosts/1"}).gaps
    assert gap == Gap(9, "is not there, but hosts/1 has applied it")
    (gap,) = follow("s", rest, both, noted=link).gaps
    assert (gap.version, link in gap.problem) == (6, True)


def test_what_is_put_in_between_joins_no_chain(keys: Keys, topic: list[Entry]) -> None:
    both = keys.trusting(0, 1)
    forged = Entry(7, b"forged", seal("s", 7, last_link("s", topic[:-1], both), b"forged", keys.eve))
    chain = follow("s", [*topic[:-1], forged, topic[-1]], both)
    assert (chain.sealed, chain.unsealed, chain.gaps) == (5, [5, 7], [])
    link = last_link("s", [forged], keys.trusting(2))
    assert len(follow("s", [*topic, forged], both, noted=link).gaps) == 1


def test_a_key_that_is_not_trusted_here_is_told_from_a_change_that_is_gone(
    keys: Keys, topic: list[Entry]
) -> None:
    chain = follow("s", topic, keys.trusting(0))
    assert (chain.sealed, chain.unsealed) == (3, [1, 5, 6])
    assert [gap.version for gap in chain.gaps] == [4, 9]
    assert all("no key that is trusted here signed what is between" in gap.problem for gap in chain.gaps)


def test_it_begins_where_changes_must_be_signed_from(keys: Keys, topic: list[Entry]) -> None:
    chain = follow("s", topic[2:], keys.trusting(0, 1), sealed_from=4)
    assert (chain.sealed, chain.unsealed, chain.gaps) == (3, [5], [])
