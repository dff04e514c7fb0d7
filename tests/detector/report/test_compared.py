"""The page of two windows: it holds what was found, what moved above all, and stands alone whatever they hold."""

import numpy as np
import pytest
from comparisons import Pair, facts, pair
from reports import Reader, stands_alone
from tocsin.detector.report import compared
from tocsin.thresholds.shapes import DRAWN

EVIL = """<script>alert(1)</script>"'&<img src=x onerror=alert(2)>"""


def names(count: int) -> list[str]:
    return [f"feature-{i:03d}" for i in range(count)]


@pytest.fixture(scope="module")
def moved() -> Pair:
    """Six features, of which the second moved by its level and the third is missing more often."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2400, 6))
    x[1200:, 1] += 1.5
    x[1200:, 2] = np.where(rng.random(1200) < 0.4, np.nan, x[1200:, 2])
    z = rng.normal(size=(2400, 8))
    z[1200:, 4] += 3.0
    return pair(x[:1200], x[1200:], latent=(z[:1200], z[1200:]))


def test_the_page_says_what_was_found(moved: Pair) -> None:
    content = compared.page(facts(moved, names(6), notes=("Compare whole days.",)))
    text = Reader(content).text
    found = moved.found
    for said in (
        "web",
        "v0001-test",
        "2026-01-01 00:00:00 to 2026-01-01 19:59:00 UTC",
        "2026-01-01 20:00:00 to 2026-01-02 15:59:00 UTC",
        "1,212",
        "12 warming (the first records of an entity, before its window is full)",
        "1 entity of the reference alone; 2 new entities, left out.",
        "Compare whole days.",
        "Advice: look at the input.",
        "tocsin recalibrate --data 'now & then.parquet' --dry-run",
        f"{found.features[1].psi:.3f}, limit {found.features[1].psi_limit:.3f}",
        "level moved",
        "missing moved",
        f"0.0 % before, {100 * found.features[2].missing[1]:.1f} % now".replace("0.0 % before", "0 % before"),
        f"{100 * found.latent.share:.1f} %, limit {100 * found.latent.limit:.1f} %",
    ):
        assert said in text, said
    assert " late (" not in text
    assert text.index("feature-001") < text.index("feature-002") < text.index("feature-000")


def test_it_stands_alone_and_is_the_same_again(moved: Pair) -> None:
    content = compared.page(facts(moved, names(6)))
    stands_alone(content)
    assert content == compared.page(facts(moved, names(6)))


def test_names_out_of_the_data_are_text(moved: Pair) -> None:
    content = compared.page(facts(moved, [EVIL, "<script>", *names(4)], stream=EVIL, notes=(EVIL,)))
    tags = Reader(content).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [tag for tag, _ in tags if tag in ("img", "iframe", "object", "link")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert Reader(content).text.count("alert(1)") > 3


def test_without_a_vae_there_is_no_latent_to_draw() -> None:
    x = np.random.default_rng(2).normal(size=(800, 3))
    content = compared.page(facts(pair(x[:400], x[400:]), names(3)))
    assert "Not compared: the model has no VAE." in Reader(content).text
    assert 'class="spread' not in content
    stands_alone(content)


def test_features_of_few_values_of_none_and_of_one() -> None:
    x = np.random.default_rng(3).normal(size=(800, 4))
    x[:350, 0] = np.nan
    x[:, 1] = np.nan
    x[400:, 2] = np.nan
    x[:, 3] = 2.5
    content = compared.page(facts(pair(x[:400], x[400:]), ["few", "none", "gone", "constant"]))
    text = Reader(content).text
    assert text.count("too few values") == 2 * 3
    assert text.count("Neither window holds a value.") == 1
    assert "constant" in text
    assert "nan" not in content.partition("</style>")[2]
    stands_alone(content)


def test_of_200_features_those_that_moved_are_drawn_first_and_all_are_listed() -> None:
    """The one that moved has a lower PSI than thirty others, which chance or a wider limit explains."""
    x = np.random.default_rng(4).normal(size=(1200, 200))
    one = pair(x[:600], x[600:])
    features = [f._replace(psi=0.01, moved=False, lost=False) for f in one.found.features]
    features[100:130] = [f._replace(psi=0.5, psi_limit=0.6) for f in features[100:130]]
    features[150] = features[150]._replace(psi=0.2, psi_limit=0.1, moved=True)
    features[151] = features[151]._replace(psi=float("nan"), lost=True)
    content = compared.page(facts(one._replace(found=one.found._replace(features=features)), names(200)))
    drawn = [a["id"] for tag, a in Reader(content).tags if tag == "article"]
    assert drawn[:2] == ["f150", "f151"]
    assert len(drawn) == DRAWN
    text = Reader(content).text
    assert all(name in text for name in names(200))
    assert f"180 more features in the table alone: {DRAWN} are drawn." in text
    assert len(content.encode()) < 400_000
    stands_alone(content)


def test_what_has_no_room_is_counted(moved: Pair) -> None:
    given = facts(moved, names(6))
    whole = compared.page(given)
    less = compared.page(given, limit=len(whole.encode()) - 1)
    assert len(less.encode()) < len(whole.encode())
    assert "1 more feature had no room on the page" in Reader(less).text
