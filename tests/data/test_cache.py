import multiprocessing
import time
from pathlib import Path

import pytest

from pyro_simvae.data.cache import cache_folder, made_once
from pyro_simvae.errors import InputError


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(None) == tmp_path / ".cache" / "pyro-simvae"
    assert cache_folder("~/here") == tmp_path / "here"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert cache_folder(None) == Path("/scratch/pyro-simvae")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder(None) == tmp_path / ".cache" / "pyro-simvae"


def slow_line(partial: Path) -> None:
    with partial.open("a") as file:
        for letter in "once":
            file.write(letter)
            file.flush()
            time.sleep(0.05)


def test_processes_that_ask_at_once_make_it_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=made_once, args=(path, slow_line)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert path.read_text() == "once"


def test_what_was_interrupted_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    def interrupted(partial: Path) -> None:
        partial.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(path, interrupted)
    assert not path.exists()
    made_once(path, lambda partial: partial.write_text(partial.read_text() + "lf"))
    assert path.read_text() == "half"
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".lock") == ["file.txt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the cache .*file cannot be written \(.*\); name a folder .*--data.cache"):
        made_once(tmp_path / "file" / "x.npy", slow_line)
