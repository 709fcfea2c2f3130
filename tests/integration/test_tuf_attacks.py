"""The attacks that TUF names (1.0.34, 1.5.2), each on a consumer that follows a federation.

By a store, a gateway and an aggregator that lie. Each lie is seen to have been told, and leaves the folder as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes
from tuf_attacks import ATTACKS, EXTRANEOUS
from tuf_scene import LATEST, MAX_READ_BYTES, NUM_HONEST, Made, Refusal, Scene

from coldfuse.consumer.folder import missing_code
from coldfuse.core.blob import Blob, Part
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import (
    CodecError,
    SignatureError,
)
from coldfuse.gateway import ReleaseName
from coldfuse.trust.keys import PrivateKey


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("made")
    thresholds = {"operators": [PrivateKey.generate(), PrivateKey.generate()]}
    rooted = RootedFederation(path, keys=make_keys(**thresholds), rules={"quorum": 1, "deadline_s": 3600.0})
    ada, consumer = rooted.enroll("ada"), rooted.enroll("carl", "consumer")
    old = b""
    for number in range(1, NUM_HONEST + 1):
        old = rooted.store.get(LATEST)
        lead(rooted.opened(), number)
        rooted.send("ada", make_changes(rooted.model, number), ada)
        lead(rooted.opened(), number)
    return Made(path, rooted.keys, consumer, old)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("place", ["store", "gateway"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_refused_and_changes_nothing(
    attack: Callable[[Scene], Refusal], place: str, made: Made, tmp_path: Path, stack: ExitStack
) -> None:
    scene = Scene(made, place, tmp_path, stack)
    refusal = attack(scene)
    before, scene.lies.told_bytes = scene.look(), 0
    scene.lies.told.clear()
    with pytest.raises(refusal.error, match=refusal.sentence):
        scene.fetch(refusal.which)
    assert scene.lies.told[refusal.lie]
    assert not scene.is_store or scene.lies.told_bytes < MAX_READ_BYTES
    assert scene.look() == before


@pytest.mark.parametrize("place", ["store", "gateway"])
def test_a_file_that_no_model_is_made_of_is_refused_whoever_signs(
    made: Made, tmp_path: Path, stack: ExitStack, place: str
) -> None:
    """Extraneous dependencies: the aggregator itself signs them."""
    scene = Scene(made, place, tmp_path, stack)
    now, before = scene.release_now(), scene.look()
    for name in EXTRANEOUS:
        scene.lies.told.clear()
        scene.release(by=scene.aggregator, files=now.files | {name: now.files["config.json"]})
        with pytest.raises(CodecError, match=r"is not a path inside a model folder|is neither tensors nor conf"):
            scene.fetch()
        assert scene.lies.told[LATEST]
        assert scene.lies.told["releases/00003.json"]
    assert scene.look() == before


def test_a_release_that_an_operator_goes_back_to_is_a_new_version(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    """What is no attack is taken: else none of the refusals above would say anything."""
    scene = Scene(made, "gateway", tmp_path, stack)
    older = sha256(scene.store.get("releases/00001.json"))
    scene.lies.signed[LATEST] = scene.channel(by=scene.operator, release=1, manifest=older)
    assert scene.fetch() == 1


def test_code_that_a_configuration_names_is_not_brought(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    scene = Scene(made, "gateway", tmp_path, stack)
    config = b'{"model_type": "tiny", "auto_map": {"AutoModel": "modeling_evil.Evil"}}'
    now = decode(ReleaseManifest, scene.store.get(f"releases/{NUM_HONEST:05d}.json"), what="m")
    part = Part(digest=sha256(config), size_bytes=len(config))
    scene.lies.parts[part.digest] = config
    scene.release(by=scene.aggregator, files=now.files | {"config.json": Blob(parts=(part,))})
    assert scene.fetch() == NUM_HONEST + 1
    files = {file.name for file in scene.out.iterdir()}
    assert not [name for name in files if name.endswith((".py", ".bin", ".pkl"))]
    [left_out] = missing_code(scene.out, scene.release_now())
    assert "modeling_evil" in str(left_out)


@pytest.mark.parametrize("number", [NUM_HONEST, NUM_HONEST + 7])
def test_a_status_that_names_another_release_is_refused(
    made: Made, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("coldfuse.consumer.trusted._PAUSE_S", 0.0)
    scene = Scene(made, "gateway", tmp_path, stack)
    assert scene.status() == NUM_HONEST
    scene.lies.latest = ReleaseName(number=number, model_digest="e" * 64, manifest_digest="e" * 64)
    with pytest.raises(SignatureError, match=rf"says that release {number} .* and the signed channel names 2"):
        scene.status()
    assert scene.lies.told["status"]


def test_a_status_that_is_a_moment_old_is_set_right(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    scene = Scene(made, "gateway", tmp_path, stack)
    scene.lies.latest = ReleaseName(number=1, model_digest="e" * 64, manifest_digest="e" * 64)
    assert scene.status() == NUM_HONEST
    assert scene.lies.told["status"]
