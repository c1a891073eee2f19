"""Checkpoints under several names."""

from pathlib import Path

import pytest
import torch

from pyro_simvae.inference.files import CHECKPOINT_FORMAT, load_checkpoint, save_checkpoint


@pytest.mark.parametrize("links", [True, False])
def test_one_state_under_two_names_that_part_later(tmp_path, monkeypatch, links):
    def refuse(self, target):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    state = {"format": CHECKPOINT_FORMAT, "step": torch.tensor(1)}
    for _ in range(2):  # over what is there already, too
        save_checkpoint([best, last], state)
        assert load_checkpoint(best) == load_checkpoint(last) == state
    save_checkpoint([last], state | {"step": torch.tensor(2)})
    assert load_checkpoint(best)["step"] == 1
    assert load_checkpoint(last)["step"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
