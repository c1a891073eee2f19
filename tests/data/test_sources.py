import os
import tarfile
from pathlib import Path

import pytest
import torch

from pyro_simvae.data.sources import Source, Sources
from pyro_simvae.errors import InputError


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Two members of a tar file, the second with a name too long for its header, and a file of its own."""
    names = ["a.txt", "b" * 150 + ".txt"]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            (tmp_path / "content").write_bytes(name[:1].encode() * 5)
            tar.add(tmp_path / "content", name)
    with tarfile.open(tmp_path / "x.tar") as tar:
        table = torch.tensor([[0, member.offset_data, member.size] for member in tar])
    (tmp_path / "c.txt").write_bytes(b"ccc")
    return Sources.join([Sources([str(tmp_path / "x.tar")], table), Sources.of_files([str(tmp_path / "c.txt")])])


def test_members_and_files_are_read_and_named(sources: Sources, tmp_path: Path) -> None:
    assert len(sources) == 3
    assert [sources[i].read() for i in range(3)] == [b"aaaaa", b"bbbbb", b"ccc"]
    assert str(sources[0]) == f"{tmp_path}/x.tar: a.txt"
    assert str(sources[1]).startswith(f"{tmp_path}/x.tar: bbb")
    assert str(sources[2]) == f"{tmp_path}/c.txt"
    taken = sources.take(torch.tensor([2, 0]))
    assert [taken[i].read() for i in range(len(taken))] == [b"ccc", b"aaaaa"]


def test_a_fingerprint_follows_the_files_and_their_order(sources: Sources, tmp_path: Path) -> None:
    first = sources.fingerprint()
    assert sources.fingerprint() == first
    assert sources.take(torch.tensor([2, 1, 0])).fingerprint() != first
    os.utime(tmp_path / "c.txt", ns=(1, 1))
    touched = sources.fingerprint()
    assert touched != first
    (tmp_path / "c.txt").write_bytes(b"cccc")
    os.utime(tmp_path / "c.txt", ns=(1, 1))
    assert sources.fingerprint() not in (first, touched)


def test_a_file_that_went_or_changed(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 5000)
    assert str(sources[0]) == f"{tmp_path}/x.tar at byte {sources[0].offset}"
    (tmp_path / "c.txt").unlink()
    with pytest.raises(InputError, match=r"c.txt cannot be read \(No such file or directory\); restore it"):
        Source(str(tmp_path / "c.txt")).read()
