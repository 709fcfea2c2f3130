"""What a node's folder remembers."""

import os

import pytest

from coldfuse.contributor.state import NodeFolder, WorkFolder
from coldfuse.contributor.work import Sent, Trained
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Score
from coldfuse.core.serialization import encode, sha256
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError

BASE, WORK = sha256(b"base"), sha256(b"work")


def finished(folder: WorkFolder) -> Trained:
    write_whole(folder.delta, b"a delta")
    trained = Trained(
        base_release=0, base_digest=BASE, work_digest=WORK, num_examples=1, num_steps=1,
        score=Score(before=0.0, after=1.0), encoding="F32",
        delta=Blob(parts=(Part(digest=sha256(b"a delta"), size_bytes=7),)),
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


@pytest.mark.parametrize("damage", [b"", b"nonsense", b'{"base_release": 0', None])
def test_what_cannot_be_read_is_set_aside_with_a_word_and_made_again(tmp_path, damage):
    said = []
    folder = WorkFolder(tmp_path / "release-00000", said.append)
    finished(folder)
    path = folder.path / "trained.json"
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage)
    assert folder.trained(base_digest=BASE, work_digest=WORK) is None
    assert folder.trained(base_digest=BASE, work_digest=WORK) is None
    [sentence] = said
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith("it was set aside as trained.json.damaged, and what it held is made again")
    assert (folder.path / "trained.json.damaged").exists()
    finished(folder)
    assert folder.trained(base_digest=BASE, work_digest=WORK) is not None


def test_a_flipped_digit_is_noticed(tmp_path):
    said = []
    folder = WorkFolder(tmp_path / "release-00000", said.append)
    finished(folder)
    path = folder.path / "trained.json"
    path.write_bytes(path.read_bytes().replace(b'"num_examples":1', b'"num_examples":9'))
    assert folder.trained(base_digest=BASE, work_digest=WORK) is None
    assert "altered" in said[0]


def test_what_an_older_version_wrote_is_taken_as_it_is(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000")
    trained = finished(folder)
    (folder.path / "trained.json").write_bytes(encode(trained))
    assert folder.trained(base_digest=BASE, work_digest=WORK) == trained


def test_what_was_trained_is_known_from_what_was_sent(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000", [].append)
    trained = finished(folder)
    folder.save_sent(Sent(federation=BASE, round=1, contribution=WORK, trained=trained))
    (folder.path / "trained.json").write_bytes(b"")
    folder.delta.unlink()  # it has been sent
    assert folder.trained(base_digest=BASE, work_digest=WORK) == trained


@pytest.mark.parametrize("data", [b"a Delta", b"a delt", b""])
def test_a_damaged_delta_is_made_again(tmp_path, data):
    said = []
    folder = WorkFolder(tmp_path / "release-00000", said.append)
    delta = finished(folder).delta
    assert folder.has_delta(delta)
    folder.delta.write_bytes(data)
    assert not folder.has_delta(delta)
    assert "delta.safetensors.damaged" in said[0]
    assert folder.trained(base_digest=BASE, work_digest=WORK) is None


def test_what_was_sent_is_lost_until_it_is_known_again(tmp_path):
    folder = WorkFolder(tmp_path / "release-00000", [].append)
    sent = Sent(federation=BASE, round=1, contribution=WORK)
    folder.save_sent(sent)
    assert (folder.sent(), folder.has_lost_sent) == (sent, False)
    (folder.path / "sent.json").write_bytes(b"")
    assert (folder.sent(), folder.has_lost_sent) == (None, True)
    assert WorkFolder(folder.path).has_lost_sent  # it was ended meanwhile
    folder.save_sent(sent)
    assert not folder.has_lost_sent


def test_what_cannot_be_made_is_told_with_what_to_do(tmp_path):
    (tmp_path / "release-00001").touch()
    with pytest.raises(UserInputError, match=r"release-00001: cannot be written: Not a directory; remove that file"):
        NodeFolder(tmp_path).work_on(1)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_owner_may_read_what_a_node_keeps(tmp_path, umask):
    before = os.umask(umask)
    try:
        node = NodeFolder(tmp_path / "work" / "node")
        with node.held():
            finished(node.work_on(0))
    finally:
        os.umask(before)
    assert modes(tmp_path / "work" / "node") == {0o700, 0o600}


def test_what_others_could_read_is_taken_from_them_with_a_word(tmp_path, caplog):
    node = NodeFolder(tmp_path / "node")
    (tmp_path / "node").mkdir(mode=0o755)
    finished(node.work_on(0))
    (tmp_path / "node" / "release-00000").chmod(0o755)
    (tmp_path / "node" / "release-00000" / "trained.json").chmod(0o644)
    with node.held():
        pass
    assert modes(tmp_path / "node" / "release-00000") == {0o700, 0o600}
    assert "now only its owner can" in caplog.text
    caplog.clear()
    with node.held():
        pass
    assert caplog.text == ""


def modes(folder):
    """The permissions of a folder and of all that lies in it, but for the lock, which holds nothing."""
    return {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.name != "lock"}


def test_one_node_at_a_time_works_in_a_folder(tmp_path):
    node = NodeFolder(tmp_path)
    with node.held(), pytest.raises(UserInputError, match="in use: another node works in it"), node.held():
        pass
    with node.held():
        pass
