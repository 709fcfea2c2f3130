from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_PENDING: _ClassVar[Decision]
    DECISION_ADMITTED: _ClassVar[Decision]
    DECISION_REJECTED: _ClassVar[Decision]
DECISION_UNSPECIFIED: Decision
DECISION_PENDING: Decision
DECISION_ADMITTED: Decision
DECISION_REJECTED: Decision

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("protocol_version", "layout_version", "federation_digest", "federation_name", "method", "rules", "max_contribution_bytes", "latest", "round", "poll_after_ms", "federation_display_name", "statistics", "gate", "weighting", "weighed")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTRIBUTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    POLL_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTING_FIELD_NUMBER: _ClassVar[int]
    WEIGHED_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    layout_version: int
    federation_digest: str
    federation_name: str
    method: str
    rules: RoundRules
    max_contribution_bytes: int
    latest: Release
    round: Round
    poll_after_ms: int
    federation_display_name: str
    statistics: StatisticsRule
    gate: GateRules
    weighting: str
    weighed: str
    def __init__(self, protocol_version: _Optional[int] = ..., layout_version: _Optional[int] = ..., federation_digest: _Optional[str] = ..., federation_name: _Optional[str] = ..., method: _Optional[str] = ..., rules: _Optional[_Union[RoundRules, _Mapping]] = ..., max_contribution_bytes: _Optional[int] = ..., latest: _Optional[_Union[Release, _Mapping]] = ..., round: _Optional[_Union[Round, _Mapping]] = ..., poll_after_ms: _Optional[int] = ..., federation_display_name: _Optional[str] = ..., statistics: _Optional[_Union[StatisticsRule, _Mapping]] = ..., gate: _Optional[_Union[GateRules, _Mapping]] = ..., weighting: _Optional[str] = ..., weighed: _Optional[str] = ...) -> None: ...

class GateRules(_message.Message):
    __slots__ = ("require", "margin", "alpha", "resolution", "on_unsure", "on_silence", "min_evaluators", "to_stop", "wait_s", "max_asks", "per_rounds", "noise", "max_suites", "weights", "on_one", "max_missed", "efficacy", "generality")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    ON_UNSURE_FIELD_NUMBER: _ClassVar[int]
    ON_SILENCE_FIELD_NUMBER: _ClassVar[int]
    MIN_EVALUATORS_FIELD_NUMBER: _ClassVar[int]
    TO_STOP_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    MAX_ASKS_FIELD_NUMBER: _ClassVar[int]
    PER_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    MAX_SUITES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ON_ONE_FIELD_NUMBER: _ClassVar[int]
    MAX_MISSED_FIELD_NUMBER: _ClassVar[int]
    EFFICACY_FIELD_NUMBER: _ClassVar[int]
    GENERALITY_FIELD_NUMBER: _ClassVar[int]
    require: str
    margin: float
    alpha: float
    resolution: float
    on_unsure: str
    on_silence: str
    min_evaluators: int
    to_stop: int
    wait_s: float
    max_asks: int
    per_rounds: int
    noise: float
    max_suites: int
    weights: _containers.ScalarMap[str, float]
    on_one: str
    max_missed: int
    efficacy: float
    generality: float
    def __init__(self, require: _Optional[str] = ..., margin: _Optional[float] = ..., alpha: _Optional[float] = ..., resolution: _Optional[float] = ..., on_unsure: _Optional[str] = ..., on_silence: _Optional[str] = ..., min_evaluators: _Optional[int] = ..., to_stop: _Optional[int] = ..., wait_s: _Optional[float] = ..., max_asks: _Optional[int] = ..., per_rounds: _Optional[int] = ..., noise: _Optional[float] = ..., max_suites: _Optional[int] = ..., weights: _Optional[_Mapping[str, float]] = ..., on_one: _Optional[str] = ..., max_missed: _Optional[int] = ..., efficacy: _Optional[float] = ..., generality: _Optional[float] = ...) -> None: ...

class StatisticsRule(_message.Message):
    __slots__ = ("kind", "presence")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    presence: str
    def __init__(self, kind: _Optional[str] = ..., presence: _Optional[str] = ...) -> None: ...

class RoundRules(_message.Message):
    __slots__ = ("quorum", "deadline_s", "close", "grace_s", "max_grace_s", "spread", "late", "staleness", "max_staleness")
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_GRACE_S_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_FIELD_NUMBER: _ClassVar[int]
    quorum: int
    deadline_s: float
    close: str
    grace_s: float
    max_grace_s: float
    spread: float
    late: str
    staleness: str
    max_staleness: int
    def __init__(self, quorum: _Optional[int] = ..., deadline_s: _Optional[float] = ..., close: _Optional[str] = ..., grace_s: _Optional[float] = ..., max_grace_s: _Optional[float] = ..., spread: _Optional[float] = ..., late: _Optional[str] = ..., staleness: _Optional[str] = ..., max_staleness: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("number", "model_digest", "manifest_digest")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    number: int
    model_digest: str
    manifest_digest: str
    def __init__(self, number: _Optional[int] = ..., model_digest: _Optional[str] = ..., manifest_digest: _Optional[str] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("number", "is_open", "num_received", "num_admitted", "num_rejected", "contributors", "waits_for", "display_names", "num_active", "num_missing", "left_s")
    class DisplayNamesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    IS_OPEN_FIELD_NUMBER: _ClassVar[int]
    NUM_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    NUM_ADMITTED_FIELD_NUMBER: _ClassVar[int]
    NUM_REJECTED_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAMES_FIELD_NUMBER: _ClassVar[int]
    NUM_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    NUM_MISSING_FIELD_NUMBER: _ClassVar[int]
    LEFT_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    is_open: bool
    num_received: int
    num_admitted: int
    num_rejected: int
    contributors: _containers.RepeatedScalarFieldContainer[str]
    waits_for: str
    display_names: _containers.ScalarMap[str, str]
    num_active: int
    num_missing: int
    left_s: float
    def __init__(self, number: _Optional[int] = ..., is_open: _Optional[bool] = ..., num_received: _Optional[int] = ..., num_admitted: _Optional[int] = ..., num_rejected: _Optional[int] = ..., contributors: _Optional[_Iterable[str]] = ..., waits_for: _Optional[str] = ..., display_names: _Optional[_Mapping[str, str]] = ..., num_active: _Optional[int] = ..., num_missing: _Optional[int] = ..., left_s: _Optional[float] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ("number", "channel")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    number: int
    channel: str
    def __init__(self, number: _Optional[int] = ..., channel: _Optional[str] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("manifest_json", "manifest_digest")
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    manifest_json: bytes
    manifest_digest: str
    def __init__(self, manifest_json: _Optional[bytes] = ..., manifest_digest: _Optional[str] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ("before", "page_size")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    before: int
    page_size: int
    def __init__(self, before: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases", "next_before")
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[ReleaseSummary]
    next_before: int
    def __init__(self, releases: _Optional[_Iterable[_Union[ReleaseSummary, _Mapping]]] = ..., next_before: _Optional[int] = ...) -> None: ...

class ReleaseSummary(_message.Message):
    __slots__ = ("release", "parent", "round", "method", "num_contributions", "created_at_s", "contributions", "moved", "cut_error", "replaces", "left_out")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    NUM_CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    CUT_ERROR_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    release: Release
    parent: int
    round: int
    method: str
    num_contributions: int
    created_at_s: float
    contributions: _containers.RepeatedCompositeFieldContainer[FusedContribution]
    moved: float
    cut_error: float
    replaces: int
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., parent: _Optional[int] = ..., round: _Optional[int] = ..., method: _Optional[str] = ..., num_contributions: _Optional[int] = ..., created_at_s: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[FusedContribution, _Mapping]]] = ..., moved: _Optional[float] = ..., cut_error: _Optional[float] = ..., replaces: _Optional[int] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class FusedContribution(_message.Message):
    __slots__ = ("contributor", "num_examples", "weight", "contribution", "display_name", "base_release", "staleness_weight", "statistics", "score_weight", "edit")
    CONTRIBUTOR_FIELD_NUMBER: _ClassVar[int]
    NUM_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_RELEASE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    SCORE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    contributor: str
    num_examples: int
    weight: float
    contribution: str
    display_name: str
    base_release: int
    staleness_weight: float
    statistics: str
    score_weight: float
    edit: str
    def __init__(self, contributor: _Optional[str] = ..., num_examples: _Optional[int] = ..., weight: _Optional[float] = ..., contribution: _Optional[str] = ..., display_name: _Optional[str] = ..., base_release: _Optional[int] = ..., staleness_weight: _Optional[float] = ..., statistics: _Optional[str] = ..., score_weight: _Optional[float] = ..., edit: _Optional[str] = ...) -> None: ...

class ReadObjectRequest(_message.Message):
    __slots__ = ("release", "digest", "start_bytes", "length_bytes")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    START_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    release: int
    digest: str
    start_bytes: int
    length_bytes: int
    def __init__(self, release: _Optional[int] = ..., digest: _Optional[str] = ..., start_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ...) -> None: ...

class ReadObjectResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class FindMissingRequest(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class FindMissingResponse(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class UploadPartRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: Part
    chunk: bytes
    def __init__(self, header: _Optional[_Union[Part, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadPartResponse(_message.Message):
    __slots__ = ("received_bytes",)
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    def __init__(self, received_bytes: _Optional[int] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("manifest_json", "signature")
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    manifest_json: bytes
    signature: Signature
    def __init__(self, manifest_json: _Optional[bytes] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("keyid", "sig")
    KEYID_FIELD_NUMBER: _ClassVar[int]
    SIG_FIELD_NUMBER: _ClassVar[int]
    keyid: str
    sig: str
    def __init__(self, keyid: _Optional[str] = ..., sig: _Optional[str] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("contribution", "verdict")
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    contribution: str
    verdict: Verdict
    def __init__(self, contribution: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...

class GetVerdictRequest(_message.Message):
    __slots__ = ("round", "contribution", "with_entry")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    WITH_ENTRY_FIELD_NUMBER: _ClassVar[int]
    round: int
    contribution: str
    with_entry: bool
    def __init__(self, round: _Optional[int] = ..., contribution: _Optional[str] = ..., with_entry: _Optional[bool] = ...) -> None: ...

class GetVerdictResponse(_message.Message):
    __slots__ = ("verdict", "entry")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    entry: bytes
    def __init__(self, verdict: _Optional[_Union[Verdict, _Mapping]] = ..., entry: _Optional[bytes] = ...) -> None: ...

class GetSignedRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class GetSignedResponse(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("statement",)
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    def __init__(self, statement: _Optional[bytes] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PutCheckRequest(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class PutCheckResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PutScoreRequest(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class PutScoreResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("decision", "reason", "is_late", "send_again")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_LATE_FIELD_NUMBER: _ClassVar[int]
    SEND_AGAIN_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    reason: str
    is_late: bool
    send_again: bool
    def __init__(self, decision: _Optional[_Union[Decision, str]] = ..., reason: _Optional[str] = ..., is_late: _Optional[bool] = ..., send_again: _Optional[bool] = ...) -> None: ...
