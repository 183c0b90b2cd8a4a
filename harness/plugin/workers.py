"""Messages between the parts of a run that pytest-xdist starts."""

from __future__ import annotations

from typing import Any

from harness.plugin.options import SEED_KEY, seed_of
from harness.plugin.session import PROBLEM_KEY, RESULTS_KEY, Problem, run_of


class Workers:
    """A plugin that carries messages between the parts that pytest-xdist starts; registered when xdist is there."""

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where the run's results lie."""
        node.workerinput[SEED_KEY] = seed_of(node.config)
        node.workerinput[RESULTS_KEY] = str(run_of(node.config).results.folder.absolute())

    def pytest_testnodedown(self, node: Any, error: object) -> None:  # noqa: ARG002 - xdist's signature
        """Take over what went wrong in a worker."""
        run = run_of(node.config)
        told = getattr(node, "workeroutput", {}).get(PROBLEM_KEY)
        if told and run.problem is None:
            run.problem = Problem(*told)
