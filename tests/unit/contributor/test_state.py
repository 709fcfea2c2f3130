"""What a node's folder remembers."""

import pytest

from coldfuse.contributor.state import NodeFolder, Trained, WorkFolder
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Score
from coldfuse.core.serialization import sha256
from coldfuse.errors import UserInputError

BASE, WORK = sha256(b"base"), sha256(b"work")


def finished(folder: WorkFolder) -> Trained:
    folder.delta.write_bytes(b"a delta")
    trained = Trained(
        base_release=0, base_digest=BASE, work_digest=WORK, num_examples=1, num_steps=1,
        score=Score(before=0.0, after=1.0), encoding="F32", delta=Blob(parts=()),
    )  # fmt: skip
    folder.save_trained(trained)
    return trained


def test_a_finished_training_is_found_by_its_base_data_and_settings(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000")
    trained = finished(folder)
    assert folder.trained(base_digest=BASE, work_digest=WORK) == trained
    assert folder.trained(base_digest=BASE, work_digest=sha256(b"other data")) is None
    assert folder.trained(base_digest=sha256(b"other base"), work_digest=WORK) is None


def test_a_delta_that_is_written_anew_does_not_pass_for_the_old_one(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000")
    finished(folder)
    folder.forget_trained()
    assert folder.delta.is_file()
    assert folder.trained(base_digest=BASE, work_digest=WORK) is None


def test_work_of_long_ago_is_cleared(tmp_path):
    node = NodeFolder(tmp_path)
    for number in range(5):
        node.work_on(number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release-00003", "release-00004"]


def test_what_cannot_be_read_or_made_is_told_with_what_to_do(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000")
    (folder.path / "trained.json").write_text("nonsense")
    with pytest.raises(UserInputError, match=r"trained\.json: .*; remove the file, and the node does this work again"):
        folder.trained(base_digest=BASE, work_digest=WORK)
    (folder.path / "sent.json").mkdir()
    with pytest.raises(UserInputError, match=r"sent\.json: cannot be read: Is a directory; remove that folder"):
        folder.sent()
    (tmp_path / "release-00001").touch()
    with pytest.raises(UserInputError, match=r"release-00001: cannot be written: File exists; remove that file"):
        NodeFolder(tmp_path).work_on(1)


def test_one_node_at_a_time_works_in_a_folder(tmp_path):
    node = NodeFolder(tmp_path)
    with node.held(), pytest.raises(UserInputError, match="in use: another node works in it"), node.held():
        pass
    with node.held():
        pass
