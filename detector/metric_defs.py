"""Every metric that Tocsin exports: name, type, help, labels, buckets. docs/metrics.md is this list.

No label names an entity, a key or an alert. The one exception, `tocsin_entity_score`, is bounded and off by
default ([http] top_k_entities). Histograms with negative bounds have no `_sum` and `_count`, as OpenMetrics
rules; their count is the bucket `+Inf`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Definition(NamedTuple):
    """One metric. `labels` are given by position wherever it is used."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, inclusive, without infinity."""
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Labels of which all values are known: their series exist, at 0, from the start."""


DEFINITIONS: list[Definition] = []

UNSCORED = ("warming", "all_missing", "duplicate", "out_of_order", "late", "far_ahead", "not_admitted")
SEVERITIES = ("warning", "critical")
PHASES = ("starting", "collecting", "training", "restoring", "live", "stopped")
STAGES = ("consume", "decode", "chain", "publish", "commit", "snapshot")

OF_PARTITION = ("stream", "topic", "partition")

# Scores are logs: a unit is a factor e, 0 is ordinary, and almost everything lies between -2 and 4.
SCORE = (
    -2.0,
    -1.5,
    -1.0,
    -0.75,
    -0.5,
    -0.25,
    0.0,
    0.25,
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    6.0,
    8.0,
)
SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    3600.0,
)
STAGE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RECORDS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)


def _define(
    kind: Kind,
    name: str,
    text: str,
    *labels: str,
    buckets: tuple[float, ...] = (),
    **choices: tuple[str, ...],
) -> Definition:
    definition = Definition(kind, f"tocsin_{name}", text, labels, buckets, tuple(choices.items()))
    DEFINITIONS.append(definition)
    return definition


# The process.
BUILD_INFO = _define("gauge", "build_info", "Always 1; which Tocsin this is.", "version", "python")
READY = _define("gauge", "ready", "1 while /-/ready says yes: assigned, restored, model warm.")
STREAM_PHASE = _define(
    "gauge",
    "stream_phase",
    "1 for the phase a stream is in, 0 for the others.",
    "stream",
    "phase",
    phase=PHASES,
)
COMPILATIONS = _define("gauge", "scorer_compilations", "Shapes that the scorer was compiled for.", "stream")

# Records on their way.
RECORDS_CONSUMED = _define(
    "counter", "records_consumed_total", "Records read from the input topics.", "stream"
)
RECORDS_SCORED = _define("counter", "records_scored_total", "Records that got a score.", "stream")
RECORDS_UNSCORED = _define(
    "counter",
    "records_unscored_total",
    "Readable records that got no score, by why: the window not yet warm, no feature present, a duplicate, "
    "out of order (kept in its place), too late, too far ahead of its entity, or of a new entity not admitted.",
    "stream",
    "verdict",
    verdict=UNSCORED,
)
POINTS_LATE = _define(
    "counter",
    "measurements_late_total",
    "Long format: measurements of a period whose record was closed already.",
    "stream",
)
POINTS_UNKNOWN = _define(
    "counter",
    "measurements_unknown_total",
    "Long format: measurements of no feature of the stream.",
    "stream",
)
VALUES_INFINITE = _define(
    "counter",
    "values_infinite_total",
    "Values that were infinite or absurdly large, read as missing.",
    "stream",
)
DEAD_LETTERS = _define(
    "counter", "dead_letters_total", "Messages put aside as unusable, by reason.", "stream", "reason"
)
DATA_LOSS = _define(
    "counter",
    "data_loss_records_total",
    "Records that Kafka had deleted before they were read.",
    *OF_PARTITION,
)
BATCH_RECORDS = _define("histogram", "batch_records", "Records taken at once.", "stream", buckets=RECORDS)
STAGE_SECONDS = _define(
    "histogram",
    "stage_duration_seconds",
    "Time a batch spends in a stage.",
    "stage",
    buckets=STAGE,
    stage=STAGES,
)
LAG = _define(
    "gauge",
    "consumer_lag_records",
    "End of the partition minus the committed offset.",
    *OF_PARTITION,
)
EVENT_TIME = _define(
    "gauge",
    "last_event_timestamp_seconds",
    "The watermark: newest event time of the partition.",
    *OF_PARTITION,
)
REKEYED = _define(
    "counter",
    "rekeyed_messages_total",
    "With [stream] rekey: messages sent on, keyed by entity; one that speaks of several entities counts for each.",
    "stream",
)
COMMIT_TIME = _define("gauge", "last_commit_timestamp_seconds", "When offsets were last committed.", "stream")
PARTITIONS = _define("gauge", "partitions_assigned", "Input partitions that this process owns.", "stream")
ROLLED_BACK = _define(
    "counter",
    "transactions_given_up_total",
    "Transactions given up, after which the stream went on from what was committed.",
    "stream",
)
REBALANCES = _define(
    "counter",
    "rebalances_total",
    "Changes of what this process owns.",
    "stream",
    "event",
    event=("assigned", "revoked", "lost"),
)
BROKER_ERRORS = _define(
    "counter", "broker_errors_total", "Errors that the Kafka client reported and got over.", "stream", "error"
)

# Scores, thresholds, incidents, alerts.
SCORE_HISTOGRAM = _define(
    "histogram", "score", "Score of each scored record; 0 is ordinary.", "stream", buckets=SCORE
)
THRESHOLD_HISTOGRAM = _define(
    "histogram",
    "threshold",
    "Rolling threshold that each scored record was held against.",
    "stream",
    buckets=SCORE,
)
ANOMALOUS = _define("counter", "records_anomalous_total", "Scored records above their threshold.", "stream")
EXCUSED = _define(
    "counter",
    "records_excused_total",
    "Scored records that would have been above their threshold, passed over by [stream.bands].",
    "stream",
)
INCIDENTS_OPEN = _define("gauge", "incidents_open", "Incidents that are firing now.", "stream")
INCIDENTS_PENDING = _define(
    "gauge", "incidents_pending", "Entities above their threshold, not firing yet.", "stream"
)
INCIDENTS_OPENED = _define(
    "counter", "incidents_opened_total", "Incidents opened, digests included.", "stream"
)
INCIDENTS_HELD = _define(
    "counter", "incidents_digested_total", "Incidents beyond the hard cap, told in a digest.", "stream"
)
ALERTS = _define(
    "counter",
    "alerts_total",
    "Alerts that the broker has acknowledged.",
    "stream",
    "severity",
    "status",
    severity=SEVERITIES,
    status=("firing", "resolved"),
)
ALERT_LATENCY = _define(
    "histogram",
    "alert_latency_seconds",
    "From the Kafka timestamp of the record that caused an alert to the alert's acknowledgement.",
    "stream",
    buckets=SECONDS,
)
BUDGET = _define(
    "gauge", "budget_openings_per_day", "The alert budget: false openings a day that are accepted.", "stream"
)
BUDGET_ENTITIES = _define(
    "gauge",
    "budget_entities",
    "Entities that the alert budget is split over: those of the model version or of the last recalibration. "
    "Not there where each entity has a budget of its own.",
    "stream",
)
OPENINGS = _define(
    "gauge",
    "realised_openings_per_day",
    "Incidents opened in each owned entity's newest day of event time.",
    "stream",
)
COUNTED = _define(
    "gauge",
    "counted_openings_per_day",
    "Openings a day at the levels in force that count against the budget, over the time counted in the owned entities' "
    "epochs: without strong and expected incidents and those that an operator confirmed.",
    "stream",
)
FEEDBACK = _define(
    "counter",
    "feedback_total",
    "Feedback on incidents received, by what operators said; what they take back again is not taken off.",
    "stream",
    "verdict",
    verdict=("false", "true", "expected"),
)
ENTITY_SCORE = _define(
    "gauge",
    "entity_score",
    "Newest score of the entities with the highest ones; only with [http] top_k_entities.",
    "stream",
    "entity",
)

# Model, calibration, changes, drift.
MODEL_INFO = _define(
    "gauge", "model_info", "Always 1; the model version in use.", "stream", "version", "profile"
)
MODEL_FAILURES = _define(
    "counter", "model_load_failures_total", "Model versions refused, the last good one staying.", "stream"
)
CALIBRATION_VERSION = _define(
    "gauge", "calibration_version", "Version of the calibration in use; 0 is the model's own.", "stream"
)
CHANGE_VERSION = _define(
    "gauge",
    "change_version",
    "Newest change of the control topic applied in every owned partition.",
    "stream",
)
RECALIBRATIONS = _define(
    "counter",
    "recalibrations_total",
    "Recalibrations received, by what became of them.",
    "stream",
    "result",
    result=("applied", "refused"),
)
CHANGES_REFUSED = _define(
    "counter",
    "changes_refused_total",
    "Changes of the control topic that act nowhere because no trusted key signed them for that place.",
    "stream",
)
TRAINING_PROGRESS = _define(
    "gauge",
    "training_progress_ratio",
    "What has been collected for the first model, as a share of the records (or the event time) that the median "
    "entity needs, at most 1; it does not say how far the training itself is.",
    "stream",
)
DRIFT_MEAN = _define(
    "gauge",
    "drift_block_mean",
    "Standardised mean of the last full block of records, by signal; late records in hundredths.",
    *OF_PARTITION,
    "signal",
)
DRIFT_ESTIMATE = _define(
    "gauge",
    "drift_estimate",
    "Mean of the block means since the last drift decision, by signal.",
    *OF_PARTITION,
    "signal",
)
DECISIONS = _define(
    "counter",
    "decisions_total",
    "Decisions that a partition's records led to, written to the changelog, by what happened and what was done.",
    *OF_PARTITION,
    "what",
    "action",
)
LEARNING_FROZEN = _define(
    "gauge",
    "learning_frozen",
    "1 while a partition learns nothing: most of its entities are in incidents, or most values missing.",
    *OF_PARTITION,
)
TRAINING_PROPOSED = _define(
    "gauge",
    "training_proposed",
    "1 where a decision has proposed a training since the model came into force.",
    *OF_PARTITION,
)
DRIFT_DECISIONS = _define(
    "counter",
    "drift_decisions_total",
    "Drift decisions written to the changelog.",
    *OF_PARTITION,
    "signal",
)

# Entities and state.
ENTITIES = _define("gauge", "entities", "Entities known here.", "stream")
ENTITIES_WARMING = _define("gauge", "entities_warming", "Entities whose window is not full yet.", "stream")
ENTITIES_TORN = _define("gauge", "entities_torn", "Entities seen in more than one partition.", "stream")
EVICTED = _define(
    "counter",
    "entities_evicted_total",
    "Entities that gave way to new ones at [state] max_entities (limit), or were forgotten (ttl).",
    "stream",
    "reason",
    reason=("limit", "ttl"),
)
SNAPSHOTS = _define(
    "counter", "state_snapshots_total", "Snapshots of a partition that were handed to the producer.", "stream"
)
SNAPSHOT_BYTES = _define("counter", "state_snapshot_bytes_total", "Bytes written as snapshots.", "stream")
RESTORE_SECONDS = _define("gauge", "state_restore_seconds", "How long the last restore took.", "stream")
RESTORED_RECORDS = _define(
    "counter", "state_replayed_records_total", "Records replayed silently after a restore.", "stream"
)
REPLAY = _define(
    "gauge",
    "state_replay_records",
    "Records between the last two snapshots: what a crash just before the second would have replayed silently.",
    *OF_PARTITION,
)
REPLAY_COVER = _define(
    "gauge",
    "state_replay_cover",
    "How many times that many the topic holds; infinite while it has deleted nothing yet. Below 2 is too little.",
    *OF_PARTITION,
)
