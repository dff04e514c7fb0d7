"""The documentation says what is so: generated pages are current, and all that pages name exists."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import jsonschema
import msgspec
import pytest
import tocsin
from rigs.source import ROOT
from tocsin.detector import alerts
from tocsin.detector import group_messages as groups
from tocsin.detector.changelog import Decision
from tocsin.detector.changes import Change
from tocsin.detector.cli import load_command
from tocsin.detector.cli.table import COMMANDS
from tocsin.detector.deadletters import PREFIX, Failed, dead_letter
from tocsin.detector.metric_defs import DEFINITIONS, STREAM_PHASE
from tocsin.detector.settings import load
from tocsin.detector.settings_sections import SECTIONS
from tocsin.detector.subscriber_options import Counts
from tocsin.errors import SettingsError
from tocsin.models.members import TABLE
from tocsin.pipelines.admission import Turned
from tocsin.pipelines.decoding import Reason
from tocsin.pipelines.windows import Verdict

DOCS = ROOT / "docs"
WRITTEN = sorted({*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"})


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = generator().PAGES
BY_HAND = [path for path in WRITTEN if path.name not in PAGES]


def pages(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", paths, ids=lambda path: path.name)


def blocks(text: str) -> Iterator[str]:
    """The lines of code blocks, fenced or indented."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def inline(text: str) -> list[str]:
    """What stands between backticks in prose."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def table(page: Path, header: str) -> list[str]:
    """The names in backticks of the first column of the table that begins with `header`."""
    _, _, rest = page.read_text().partition(f"| {header} |")
    names: list[str] = []
    for line in rest.splitlines()[2:]:
        if not line.startswith("|"):
            break
        names += re.findall(r"`([^`]+)`", line.split("|")[1])
    return names


@pytest.mark.parametrize("page", list(PAGES))
def test_generated_pages_are_current(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run `make docs`"


@pages(WRITTEN)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in {slug(title) for title in titles}, target


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def commands(page: Path) -> list[str]:
    text = page.read_text()
    lines = [line.removeprefix("$ ") for line in blocks(text)]
    # "tocsin 0.1.0 …" is an answer
    return [found for found in [*lines, *inline(text)] if re.match(r"tocsin [^\d]", found)]


@pages(BY_HAND)
def test_commands_exist_with_their_options(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        if words[0].startswith("-"):
            assert words[0] in ("--help", "--version"), line
            continue
        assert words[0] in COMMANDS, line
        command = load_command(words.pop(0))
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not getattr(command, "commands", {}) or not words, line
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known | {"--help"}, line


def test_the_readme_shows_every_first_step() -> None:
    shown = " ".join(commands(ROOT / "README.md"))
    for step in ("init", "check", "run", "alerts tail", "recalibrate", "status", "train", "replay"):
        assert f"tocsin {step}" in shown


@pages(BY_HAND)
def test_metrics_exist(page: Path) -> None:
    known = {definition.name for definition in DEFINITIONS}
    for name in re.findall(r"\btocsin_[a-z_]+[a-z]", page.read_text()):
        assert name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known, name


@pages(BY_HAND)
def test_settings_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`\[(\w+)\] (\w+)`", text)
    named += [
        (section.lower(), key.lower()) for section, key in re.findall(r"TOCSIN__([A-Z]+)__([A-Z_]+?)__", text)
    ]
    for section, key in named:
        assert section in SECTIONS, section
        assert key in {field.name for field in msgspec.structs.fields(SECTIONS[section])}, (
            f"[{section}] {key}"
        )
    for section in re.findall(r"`\[(\w+)\]`", text):
        assert section in SECTIONS, section


@pages(BY_HAND)
def test_modules_that_are_named_exist(page: Path) -> None:
    for name in inline(page.read_text()):
        if re.fullmatch(r"(detector|models|pipelines|thresholds|tests|docs|benchmarks)/[\w./-]*", name):
            assert (ROOT / name).exists(), name


@pages([DOCS / "runbook.md", DOCS / "operations.md"])
def test_messages_that_are_quoted_are_said(page: Path) -> None:
    """What stands in quotes in a list of causes is a part of an error; docs/errors.md holds them all."""
    said = (DOCS / "errors.md").read_text()
    for quoted in re.findall(r'^\* "([^"]+)"', page.read_text(), re.MULTILINE):
        assert quoted in said, quoted


def test_errors_are_shown_as_they_are_said() -> None:
    said = (DOCS / "errors.md").read_text()
    with pytest.raises(SettingsError) as told:
        load(DOCS / "nowhere.toml", environ={})
    kind, shown = "## SettingsError\n", "there is no such file. `tocsin init` writes one."
    assert str(told.value).endswith(shown)
    assert f"- …: {shown}\n" in said.partition(kind)[2].partition("\n## ")[0]


def test_the_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    found = re.search(
        r"(?:^ {4}.*\n|^\n)*^ {4}\[stream\]\n(?:^ {4}.*\n|^\n)*", (ROOT / "README.md").read_text(), re.M
    )
    assert found
    path = tmp_path / "tocsin.toml"
    path.write_text(re.sub(r"^ {4}", "", found[0], flags=re.MULTILINE))
    assert load(path, environ={}).stream().name == "web"


def example(page: str = "alerts.md") -> dict[str, Any]:
    found = re.search(r"```json\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_example_of_an_alert_is_one() -> None:
    alert = example()
    jsonschema.validate(alert, alerts.alert_schema())
    read = alerts.decode(json.dumps(alert).encode())
    assert json.loads(msgspec.json.encode(read)) == alert, "it holds a field that alerts do not have"


def test_the_published_schema_is_the_one_in_the_package() -> None:
    published = (DOCS / "alert.schema.json").read_bytes()
    assert published == (ROOT / "detector" / "schemas" / "alert.schema.json").read_bytes()
    jsonschema.validate(example(), json.loads(published))


def test_the_example_of_a_group_is_one_and_every_field_is_explained() -> None:
    published = (DOCS / "group.schema.json").read_bytes()
    assert published == (ROOT / "detector" / "schemas" / "group.schema.json").read_bytes()
    grouped, page = example("grouping.md"), DOCS / "grouping.md"
    jsonschema.validate(grouped, json.loads(published))
    read = msgspec.json.decode(json.dumps(grouped), type=groups.Grouped)
    assert json.loads(msgspec.json.encode(read)) == grouped, "it holds a field that groups do not have"
    first = min(grouped["members"], key=lambda member: str(member["starts_at"]))
    assert grouped["group_id"] == groups.group_id("web", "web", first["alert_id"])
    explained = set(table(page, "field"))
    for kind in (groups.Grouped, groups.GroupNotes, groups.GroupMember):
        assert set(kind.__struct_fields__) - {"schema_version", "annotations"} <= explained, kind


def test_the_page_of_subscribers_shows_the_example_as_it_is() -> None:
    shown = re.findall(r"```python\n(.*?)```", (DOCS / "subscribers.md").read_text(), re.DOTALL)
    ran = (DOCS / "examples" / "subscribe.py").read_text()
    assert len(shown) == 1
    assert shown[0] in ran


def test_every_public_name_is_explained() -> None:
    page = (DOCS / "subscribers.md").read_text()
    for name in tocsin.__all__:
        assert f"`{name}`" in page or name == "__version__", name
        assert getattr(tocsin, name) is not None
    for name in Counts._fields:
        assert f"`{name}`" in page, name
    assert dir(tocsin) == tocsin.__all__
    with pytest.raises(AttributeError, match="no_such_name"):
        tocsin.no_such_name  # noqa: B018


def test_the_example_bears_the_id_that_the_page_explains() -> None:
    alert = example()
    began = datetime.fromisoformat(alert["starts_at"]) - datetime(1970, 1, 1, tzinfo=UTC)
    onset_us = began // timedelta(microseconds=1)
    labels = alert["labels"]
    assert alert["alert_id"] == alerts.alert_id(labels["stream"], labels["entity"], alert["kind"], onset_us)


def test_every_annotation_is_explained() -> None:
    page = DOCS / "alerts.md"
    elsewhere = {"annotations", "schema_version", "alert_id"}
    assert set(example()) - elsewhere == set(table(page, "field"))
    annotations = (page.read_text().partition("`annotations` say")[2]).partition("Headers follow")[0]
    for name in alerts.Annotations.__struct_fields__:
        assert f"`{name}`" in annotations, name


def test_every_value_of_an_alert_is_explained() -> None:
    page = (DOCS / "alerts.md").read_text()
    for kind in (alerts.Status, alerts.Kind, alerts.Severity, alerts.Resolution):
        for value in kind:
            assert f"`{value.value}`" in page, value
    assert table(DOCS / "thresholds.md", "basis") == [basis.value for basis in alerts.Basis]


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    page = DOCS / "dead-letters.md"
    assert sorted(table(page, "reason")) == sorted(
        [*(reason.value for reason in Reason), "time_far_ahead", *(turned.reason for turned in Turned)]
    )
    letter = dead_letter(Failed("t", 0, 0, 0, None, b"", None), "empty", "", "s", "1")
    headers = [name for name, _ in letter.headers if name.startswith(PREFIX)]
    assert sorted(table(page, "header")) == sorted(headers)


def test_every_verdict_phase_member_and_change_is_explained() -> None:
    time = (DOCS / "time.md").read_text()
    for verdict in Verdict:
        assert verdict is Verdict.SCORED or f"`{verdict.name.lower()}`" in time, verdict
    phases = dict(STREAM_PHASE.choices)["phase"]
    assert table(DOCS / "operations.md", "phase") == list(phases)
    assert table(DOCS / "models.md", "member") == list(TABLE)
    changes = (DOCS / "operations.md").read_text()
    for change in get_args(Change):
        assert f"`{change.__struct_config__.tag}`" in changes, change
    state = (DOCS / "state.md").read_text()
    for kind in get_args(get_type_hints(Decision)["kind"]):
        assert kind.replace("_", " ") in state, kind
