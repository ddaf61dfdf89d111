"""The short form of each campaign: the same harm to the same runs, a few times."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from slowfast.analysis.stress import deaths, folder, scarcity
from slowfast.analysis.stress.runs import Scene, Surroundings
from slowfast.analysis.stress.table import Tally, as_markdown, watch_end
from slowfast.cli.options import words_of_run
from slowfast.cli.stress import campaign
from slowfast.config.yaml_file import find_config
from tests.conftest import words
from tests.scripts import CONTEXT, enter_process, open_output


def _enter(argv: Sequence[str], console: str, env: dict[str, str], around: Surroundings) -> None:
    from slowfast.cli.main import main

    enter_process(env, console, console)
    around.enter()
    open_output()
    sys.argv = ["slowfast", *argv]
    main()


class Forked:
    """A process of ``python -m slowfast …`` that need not import PyTorch again."""

    def __init__(
        self, argv: Sequence[str], console: Path, env: Mapping[str, str], around: Surroundings
    ):
        assert list(argv[:2]) == words_of_run()[:2] and not around.mounts
        self._process = CONTEXT.Process(
            target=_enter, args=(argv[2:], str(console), dict(env), around)
        )
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        self._process.join(0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


@pytest.fixture
def scene(tmp_path, shapes):
    """``scene(ranks)``: runs of the network of tools/stress.py, with one loader worker each."""

    def make(processes: int = 1, seed: int = 0) -> Scene:
        values = {
            "DATA_LOADER.NUM_WORKERS": 1,
            "TRAIN.BATCH_SIZE": processes,
            "DATA.PATH_TO_DATA_DIR": shapes,
            "TRAIN.EVAL_PERIOD": 1000,
        }
        config = str(find_config("configs/quickstart/stress.yaml").absolute())
        command = [*words_of_run(), "--cfg", config, *words(values), "OUTPUT_DIR", "{out}"]
        return Scene(command, tmp_path, processes, Forked, seed)

    return make


def assert_handled(tally: Tally, tries: int) -> None:
    assert tally.tried == tries and not tally.lost, "\n".join(tally.lost)


@pytest.mark.parametrize("processes", [1, 2])
def test_dead_workers(scene, processes):
    assert_handled(deaths.workers(scene(processes), 1), 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_dead_ranks(scene, processes):
    assert_handled(deaths.parents(scene(processes), 1), 1)


def test_dead_tools(scene, shapes):
    assert_handled(campaign("tools", shapes)(scene(), 5), 5)


def test_runs_in_one_folder(scene):
    assert_handled(folder.two_runs(scene(), 2), 2)


def test_small_files(scene):
    assert_handled(scarcity.file_size(scene(), 2), 2)


def test_few_descriptors(scene):
    assert_handled(scarcity.descriptors(scene(), 1), 1)


def test_lost_output(scene):
    assert_handled(scarcity.console(scene(), 3), 3)


def test_what_is_not_handled_is_counted(scene, tmp_path):
    """A run that ends with another code, and says something else, than it should."""
    run = scene().start("wrong", ("NO.SUCH_KEY", "1"))
    problems, _ = watch_end(run, {1}, ["loader worker"])
    assert problems[0] == "exit codes [2]" and problems[1] == "does not say 'loader worker'"
    tally = Tally("wrong")
    tally.record(problems, 1.25)
    tally.record([])
    assert (tally.tried, tally.handled, len(tally.lost)) == (2, 1, 1)
    assert as_markdown([tally]).splitlines()[-1] == "| wrong | 2 | 1 | 1 | 1.2 s |"
