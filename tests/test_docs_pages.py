"""The studies in the markdown files are studies that can be run, and links lead somewhere."""

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import markdown_pages as markdown
import pytest
import yaml

import hpo
from hpo import study_file
from hpo.arm import strategy_for
from hpo.evaluation import plan

STARTER = (Path(hpo.__file__).parent / "starter.yaml").read_text(encoding="utf-8")
STUDIES = [(page, text) for page in markdown.PAGES for text in markdown.blocks(page, "yaml")]
LINKS = sorted(
    {(page, link) for page in markdown.PAGES for link in re.findall(r"\]\(([^)\s]+)\)", markdown.prose(page))},
    key=str,
)


@pytest.mark.parametrize(("page", "text"), STUDIES, ids=lambda x: markdown.shown(x) if isinstance(x, Path) else "study")
def test_a_study_on_a_page_can_be_run(page, text):
    """Keys without a name stand in place of those of the starter study."""
    given = yaml.load(text, study_file._Loader)
    whole = given if "name" in given else {**yaml.load(STARTER, study_file._Loader), **given}
    study = study_file.parse(yaml.dump(whole, Dumper=study_file._Dumper), markdown.shown(page))
    if study.problem.data == "digits":
        arms = [arm for arm in study.arms() if arm.seed == study.seeds[0]]
        assert all(strategy_for(arm, plan(study, arm, None)).ask(0) is not None for arm in arms)


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda x: markdown.shown(x) if isinstance(x, Path) else x)
def test_a_link_leads_somewhere(page, link):
    if link.startswith("https://"):
        return
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    assert not anchor or anchor in markdown.anchors(target)


@pytest.mark.parametrize("page", [p for p in markdown.PAGES if "studies" not in p.parts], ids=markdown.shown)
def test_a_loss_on_a_page_was_measured_in_a_study_it_links_to(page):
    """Numbers with three decimals or four, in sentences and tables of results."""
    text = "\n".join(line for line in markdown.prose(page).splitlines() if not line.startswith("| `"))
    links = {(page.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", text) if "studies/" in link}
    studied = " ".join(link.read_text(encoding="utf-8") for link in links if link.suffix == ".md")
    measured = [Decimal(number) for number in re.findall(r"\d+\.\d+", studied)]
    said = re.findall(r"(?<![\d.])\d\.\d{3,4}(?![\d.])", re.sub(r"\$[^$]*\$|`[^`]*`", "", text))
    for figure in map(Decimal, said):
        rounded = {number.quantize(figure, ROUND_HALF_UP) for number in measured}
        assert figure in rounded, figure
