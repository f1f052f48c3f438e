from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

import podnet
from podnet.cli.main import COMMANDS, main

SRC = os.path.dirname(os.path.dirname(podnet.__file__))


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": SRC},
    )


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_help_and_version_load_no_room_and_no_guest(arguments):
    done = python(
        "import sys\n"
        "from podnet.cli.main import main\n"
        "before = set(sys.modules)\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: print('exit', end.code)\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('podnet', 'rich', 'attr', 'attrs', 'yaml', 'pyroute2', 'netaddr', 'asyncio')))\n"
    )
    assert done.stdout.endswith("exit 0\n['podnet', 'podnet.cli', 'podnet.cli.main']\n"), done


def test_a_command_loads_no_other_command():
    done = python(
        "import sys\n"
        "from podnet.cli.main import main\n"
        "try: main(['attach', '--help'])\n"
        "except SystemExit: pass\n"
        f"others = ['podnet.cli.' + c for c in {list(COMMANDS)!r} if c != 'attach']\n"
        "print([m for m in [*others, 'rich', 'yaml', 'pyroute2', 'podnet.engine.node']"
        " if m in sys.modules])\n"
    )
    assert done.stdout.endswith("\n[]\n"), done


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"podnet {command}" in shown


@pytest.mark.parametrize("verb", ["install", "uninstall", "list"])
def test_each_plugin_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main(["plugin", verb, "--help"])
    assert end.value.code == 0
    assert f"podnet plugin {verb} --" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_its_own_module_with_the_two_functions(command):
    module = import_module(f"podnet.cli.{command}")
    assert callable(module.configure)
    assert callable(module.run)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["attach"],
        ["attach", "--netns"],
        ["detach"],
        ["detach", "--netns", "/x", "--pod", "a/b"],
        ["check"],
        ["status", "--output", "xml"],
        ["plugin"],
        ["plugin", "install"],
    ],
)
def test_wrong_usage_exits_2_with_one_error(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1


@pytest.mark.parametrize(("arguments", "told"), [([], "attach"), (["ipam"], "reconcile")])
def test_without_a_command_there_is_a_list_of_them(arguments, told, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"usage: {' '.join(['podnet', *arguments])} ")
    assert f"\n    {told}" in err


def test_a_reader_that_leaves_is_no_error(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m podnet.cli.main ipam leases -o json | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": SRC, "PODNET_STATE_DIR": str(tmp_path / "state")},
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["attach", "--netns", "/n", "--network", "a", "--pood", "x"], "usage: podnet attach"),
        (["status", "--ouput", "json"], "usage: podnet status"),
        (["status", "more"], "usage: podnet status"),
        (["plugin", "list", "--bindir", "/x"], "usage: podnet plugin list"),
    ],
)
def test_a_misspelled_option_shows_its_commands_usage(arguments, usage, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(usage)
    assert err.splitlines()[-1].startswith(f"{usage.removeprefix('usage: ')}: error: unrecognized")


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["-o", "json", "status"], "podnet status -o ..."),
        (["--bogus"], "podnet COMMAND --bogus ..."),
    ],
)
def test_an_option_before_its_command_is_told_its_place(arguments, right, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.endswith(f"error: options come after the command: {right}\n")


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
def test_help_fits_every_encoding(arguments, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    assert capsys.readouterr().out.isascii()


@pytest.mark.parametrize("mode", ["json", "table"])
@pytest.mark.parametrize("where", ["> /dev/full", ">&-", "2>&-", "> /dev/full 2> /dev/full"])
def test_output_that_cannot_be_written_leaves_no_traceback(mode, where, tmp_path):
    (tmp_path / "podnet.conf").write_text("{}")
    done = subprocess.run(
        f"exec {sys.executable} -m podnet.cli.main status -o {mode} {where}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": SRC,
            "PODNET_CONFIG": str(tmp_path / "podnet.conf"),
            "PODNET_STATE_DIR": str(tmp_path / "state"),
        },
    )
    assert done.returncode == (1 if "full" in where else 0), done
    line = "podnet: error: cannot write standard output: No space left on device\n"
    assert done.stderr == (line if where == "> /dev/full" else "")


def test_options_may_stand_before_the_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help", "attach"])
    assert end.value.code == 0
    assert "COMMAND" in capsys.readouterr().out
