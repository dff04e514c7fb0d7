import pytest
from tocsin.thresholds.budget import default_budget, parse_budget


@pytest.mark.parametrize(
    ("text", "entities", "share"),
    [
        ("20/day", 1000, 0.02),
        ("20/day", 0, 20.0),
        ("1/week per entity", 1000, 1 / 7),
        ("0.5/hour per entity", 3, 12.0),
        (" 20 / hour ", 4, 120.0),
    ],
)
def test_an_entity_has_its_share(text, entities, share):
    assert parse_budget(text).share(entities) == pytest.approx(share)


@pytest.mark.parametrize(
    "text", ["", "20", "/day", "0/day", "-1/day", "5/fortnight", "1/day per host", "1e3/day", "٣/day"]
)
def test_other_forms_are_refused_with_those_allowed(text):
    with pytest.raises(ValueError, match=r'"20/day", "1/week per entity", "0.5/hour per entity"'):
        parse_budget(text)


def test_few_entities_have_one_a_day_each_and_many_share_twenty():
    assert default_budget(20).text == "1/day per entity"
    assert default_budget(21).text == "20/day"
    assert default_budget(20).share(20) == 1.0
    assert default_budget(400).share(400) == 0.05
