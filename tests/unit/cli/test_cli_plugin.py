from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from podnet.cli import launcher
from podnet.cli.launcher import Found, inspect, render
from podnet.cli.main import main
from podnet.errors import IOFailureError


@pytest.fixture
def stage(tmp_path):
    """A podnet that only tells how it was called."""
    package = tmp_path / "src" / "podnet" / "cni"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "main.py").write_text(
        "import sys\n"
        "def main():\n"
        "    print(sys.argv[0], sys.flags.isolated, sys.stdin.read())\n"
        "    return 7\n"
    )
    return tmp_path / "src"


@pytest.fixture
def bin_dir(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def call(path, **environment):
    return subprocess.run(
        [path], input="conf", capture_output=True, text=True, env=environment, check=False
    )


def install(bin_dir, *arguments):
    return main(["plugin", "install", "--bin-dir", str(bin_dir), *arguments])


@pytest.mark.parametrize("kind", ["short", "long", 'spaces and $quotes"'])
def test_the_executable_runs_isolated_under_every_name(stage, bin_dir, tmp_path, kind):
    python = sys.executable
    if kind != "short":
        folder = tmp_path / (kind if kind != "long" else "x" * 200)
        folder.mkdir()
        python = str(folder / "python3")
        # A wrapper and no link: the interpreter finds its library by its own name.
        with open(python, "w") as file:
            file.write(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        os.chmod(python, 0o755)
    text = render(python, str(stage))
    assert text.startswith("#!/bin/sh") == (kind != "short")
    launcher.place(str(bin_dir), "podnet", text)
    launcher.place(str(bin_dir), "macvlan", None)
    for name in ("podnet", "macvlan"):
        done = call(str(bin_dir / name), PYTHONPATH="/nonexistent", PATH="")
        assert (done.returncode, done.stdout) == (7, f"{bin_dir / name} 1 conf\n"), done.stderr


def test_a_shebang_is_never_longer_than_old_kernels_read():
    for length in range(100, 140):
        first = render("/" + "p" * length, "").split("\n", 1)[0]
        assert len(first) <= 127


@pytest.mark.parametrize("python", ["", "python3", "/usr/bin/py\nthon"])
def test_an_interpreter_without_usable_path_is_refused(python):
    with pytest.raises(IOFailureError):
        render(python, "")


def test_install_puts_one_file_and_links(bin_dir, capsys):
    assert install(bin_dir, "--name", "macvlan", "whereabouts", "--name", "macvlan") == 0
    assert json.loads(capsys.readouterr().out) == {
        "binDir": str(bin_dir),
        "installed": ["podnet", "macvlan", "whereabouts"],
        "replaced": [],
        "executable": "in-process",
    }
    assert sorted(os.listdir(bin_dir)) == ["macvlan", "podnet", "whereabouts"]
    assert os.readlink(bin_dir / "macvlan") == "podnet"
    assert os.stat(bin_dir / "podnet").st_mode & 0o7777 == 0o755
    assert install(bin_dir, "--name", "macvlan") == 0


def test_the_installed_executable_answers_VERSION(bin_dir, capsys):
    install(bin_dir, "--name", "whereabouts")
    done = subprocess.run(
        [bin_dir / "whereabouts"],
        input=b'{"cniVersion": "1.0.0"}',
        capture_output=True,
        env={"CNI_COMMAND": "VERSION"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]


def test_install_without_names_is_podnet_alone(bin_dir, capsys):
    assert install(bin_dir) == 0
    assert os.listdir(bin_dir) == ["podnet"]


@pytest.mark.parametrize("name", ["../evil", "nonsense", "", "podnet/x"])
def test_names_that_podnet_does_not_serve_are_refused(bin_dir, capsys, name):
    assert install(bin_dir, "--name", name) == 2
    assert "it has podnet, " in capsys.readouterr().err
    assert os.listdir(bin_dir) == []


@pytest.mark.parametrize("make", ["file", "link"])
def test_what_others_put_there_is_replaced_only_by_force(bin_dir, capsys, make):
    path = bin_dir / "macvlan"
    if make == "file":
        path.write_bytes(b"\x7fELF")
    else:
        path.symlink_to("/usr/lib/cni/macvlan")
    assert install(bin_dir, "--name", "macvlan") == 1
    assert "macvlan was not put there by podnet" in capsys.readouterr().err
    assert os.listdir(bin_dir) == ["macvlan"]
    assert inspect(str(path)) is Found.FOREIGN
    assert install(bin_dir, "--name", "macvlan", "--force") == 0
    assert json.loads(capsys.readouterr().out)["replaced"] == ["macvlan"]
    assert inspect(str(path)) is Found.LINK


def test_a_folder_is_never_replaced(bin_dir, capsys):
    (bin_dir / "macvlan").mkdir()
    assert install(bin_dir, "--name", "macvlan", "--force") == 1
    assert os.listdir(bin_dir) == ["macvlan"]


def test_a_missing_bin_dir_is_an_error(tmp_path, capsys):
    assert install(tmp_path / "none") == 1
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "uninstall"])
def test_every_verb_refuses_a_missing_bin_dir(verb, tmp_path, capsys):
    assert main(["plugin", verb, "--bin-dir", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == (
        f"podnet: error: --bin-dir {tmp_path}/none is not a folder\n"
    )


def test_a_folder_that_cannot_be_written_is_named_and_nothing_else(capsys):
    # Nobody makes files there, root neither.
    assert install("/proc") == 1
    err = capsys.readouterr().err
    assert err.startswith("podnet: error: cannot write podnet into /proc: ")
    assert ".podnet-" not in err


def test_a_python_that_cannot_be_run_is_told_with_its_purpose(tmp_path):
    python = tmp_path / "python3"
    python.touch(0o644)
    with pytest.raises(IOFailureError) as caught:
        render(str(python))
    assert str(caught.value) == (
        f"cannot run {python}, the Python interpreter that the plugins are to start: "
        "Permission denied"
    )


def test_a_failed_write_leaves_the_old_executable(bin_dir, capsys, monkeypatch):
    install(bin_dir)
    old = (bin_dir / "podnet").read_text()

    def fail(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr("podnet.cli.plugin.render", lambda _python: "# changed")
    assert install(bin_dir) == 1
    assert (bin_dir / "podnet").read_text() == old
    assert os.listdir(bin_dir) == ["podnet"]


def test_uninstall_takes_what_is_podnets(bin_dir, capsys):
    install(bin_dir, "--name", "macvlan", "ptp")
    (bin_dir / "whereabouts").write_text("other")
    capsys.readouterr()
    assert main(["plugin", "uninstall", "--bin-dir", str(bin_dir)]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["removed"]) == ["macvlan", "podnet", "ptp"]
    assert os.listdir(bin_dir) == ["whereabouts"]


def test_uninstall_removes_the_file_after_the_links_to_it(bin_dir, capsys, monkeypatch):
    install(bin_dir, "--name", "macvlan", "ptp")
    order = []
    unlink = os.unlink

    def watch(path):
        order.append(os.path.basename(path))
        unlink(path)

    monkeypatch.setattr(os, "unlink", watch)
    assert main(["plugin", "uninstall", "--bin-dir", str(bin_dir)]) == 0
    assert order[-1] == "podnet"
    assert len(order) == 3


def test_uninstall_of_one_name(bin_dir, capsys):
    install(bin_dir, "--name", "macvlan", "ptp")
    uninstall = ["plugin", "uninstall", "--bin-dir", str(bin_dir), "--name"]
    assert main([*uninstall, "ptp"]) == 0
    assert sorted(os.listdir(bin_dir)) == ["macvlan", "podnet"]
    assert main([*uninstall, "podnet"]) == 2
    assert "macvlan would point to nothing" in capsys.readouterr().err
    assert main([*uninstall, "podnet", "macvlan"]) == 0
    assert os.listdir(bin_dir) == []


def test_uninstall_refuses_what_others_put_there(bin_dir, capsys):
    (bin_dir / "macvlan").write_text("other")
    arguments = ["plugin", "uninstall", "--bin-dir", str(bin_dir), "--name", "macvlan"]
    assert main(arguments) == 1
    assert os.listdir(bin_dir) == ["macvlan"]


def test_list_tells_names_and_what_is_there(bin_dir, capsys):
    assert main(["plugin", "list"]) == 0
    names = json.loads(capsys.readouterr().out)["names"]
    assert names[0] == "podnet"
    assert {"macvlan", "whereabouts", "multus", "ptp"} <= set(names)
    install(bin_dir, "--name", "ptp")
    (bin_dir / "macvlan").write_text("other")
    capsys.readouterr()
    assert main(["plugin", "list", "--bin-dir", str(bin_dir)]) == 0
    seen = json.loads(capsys.readouterr().out)["names"]
    assert (seen["podnet"], seen["ptp"], seen["macvlan"], seen["static"]) == (
        "installed",
        "installed, link",
        "not podnet's",
        "-",
    )
    assert main(["plugin", "list", "--bin-dir", str(bin_dir), "--output", "table"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        str(bin_dir),
        "NAME         STATE",
        "podnet       installed",
    ]
