"""The page's table of scenarios is the one that the code makes, and each row of the field has a place."""

import re

from tests import scenario_table as table
from tests.e2e.in_ci import IN_CI
from tests.mutants.scenarios.plugin import apply, load

SHIPPED = table.scenarios()


def test_the_page_shows_the_table_that_the_code_makes():
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.written(page) == page, "run python -m tests.scenario_table"


def test_each_row_is_a_scenario_or_says_where_it_is_or_what_is_missing():
    rows = {scenario.row for scenario in SHIPPED.values()}
    assert [row for row in table.ROWS if row not in rows and row not in table.ELSEWHERE] == []
    assert [row for row in table.ELSEWHERE if row in rows] == []


def test_scenarios_of_ci_are_shipped():
    assert set(IN_CI) <= set(SHIPPED)


def test_mutants_of_scenarios_change_one_place_and_name_a_shipped_scenario(tmp_path):
    from bundle.seal.script import _TEMPLATES

    # A mutant of a scenario with parameters names their values, too; else nothing would run it.
    names = {row.id.partition(f"-from-{row.from_release}-")[2] for row in table.planned()}
    for number, mutant in enumerate(load()):
        assert mutant.scenario in names | set(SHIPPED), mutant
        assert re.fullmatch(r"[a-z]+(\.[a-z0-9-]+)*|(request|later)\.[^\n]+", mutant.check)
        if mutant.guest:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        source = _TEMPLATES / f"{mutant.file}.sh.j2"
        (folder / source.name).write_text(source.read_text())
        apply(mutant, folder)
        assert (folder / source.name).read_text() != source.read_text()


def test_each_scenario_kills_two_mutants():
    rows = load()
    killed = {name: sum(row.scenario.startswith(name) for row in rows) for name in SHIPPED}
    assert [name for name, count in killed.items() if count < 2] == []
