"""What every command says of itself, its examples tried, and what the shell completes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ingest.cli import app
from ingest.cli_examples import EXAMPLES

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; sys.argv[0] = 'postback'; from ingest.cli import main; main()"


def _commands(group: TyperGroup, *path: str) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, *path, name)
        else:
            assert isinstance(command, TyperCommand)
            yield " ".join((*path, name)), command


def _root() -> TyperGroup:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    return root


COMMANDS = dict(_commands(_root()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example_that_can_be_typed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = COMMANDS[name]
    with command.make_context(name, [], resilient_parsing=True) as context:
        said = command.get_help(context)
    assert command.help
    assert command.help.strip().endswith(".")
    for example in EXAMPLES[name]:
        assert f"\n    postback {example}\n" in f"{said}\n", "in a line of its own, to be copied"
        words = shlex.split(example)
        path = name.split()
        assert words[: len(path)] == path
        command.make_context(name, words[len(path) :]).close()  # raises where the program would refuse it


def test_groups_explain_themselves() -> None:
    groups = [command for command in _root().commands.values() if isinstance(command, TyperGroup)]
    assert groups
    assert all(group.help for group in groups)


def _shell(script: str) -> str:
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_completes_commands() -> None:
    # What follows keeps bash from becoming the program: it is asked which shell it was started by.
    assert "complete -o default -F _postback_completion postback" in _shell(
        '"$1" -c "$2" --show-completion || exit 1; :'
    )
    ask = '_POSTBACK_COMPLETE=complete_bash COMP_WORDS="postback dead" COMP_CWORD=1 "$1" -c "$2"'
    assert _shell(ask).split() == ["dead-letters"]
