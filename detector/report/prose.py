"""What the pages say in whole sentences: reasons, definitions, the meaning of its words."""

from __future__ import annotations

from typing import Final

from .quality import BIN_WIDTH, EARLY

WHY: Final = {
    "warming": "the first records of an entity, before its window is full",
    "all_missing": "no feature was present",
    "duplicate": "entity and time had been seen",
    "out_of_order": "older than the newest, but within the window",
    "late": "older than all that was held",
    "far_ahead": "too far in the future",
    "not_admitted": "of a new entity without a place",
}
SIGNALS: Final = {
    "score": "score",
    "level": "input level",
    "missing": "missing values",
    "late": "late records",
}

DEFINITIONS: Final = (
    """Counted are records that were judged and whose label is 0 or 1. An event is a longest run of an entity's records
    labelled 1.""",
    f"""Found: an incident opened at one of the event's records, or at one of the {EARLY} judged records before its
    first. Event recall = events found / events.""",
    """False opening: an incident that opened and found no event; one that a digest holds counts.
    Precision = 1 - false openings / openings.""",
    """Entity-days: each entity's time from its first such record to its last, added up.""",
    """Normal records inside incidents: of the records labelled 0, those at which an incident was open. A high recall
    means little where this is high.""",
    f"""AUC-PR: average precision of the bare score, the sum over its values from above of recall gained x precision;
    scores in one bin of 1/{round(1 / BIN_WIDTH)} count as equal. The mean over entities that have both labels; chance
    is their mean share of records labelled 1.""",
    """Delay: from an event's first record to the first incident that found it; negative where that opened before.""",
    """No figure is point-adjusted: a record is what it is, whatever else its event holds.""",
)

MEANINGS: Final = (
    (
        "score",
        """The mean of the logs of the panel's smoothed members. 0 is ordinary; one more is a factor e.""",
    ),
    (
        "threshold",
        """The entity's level plus a share of its slow average of the score; it stands still while an incident is
        open.""",
    ),
    (
        "level",
        """The lowest at which the whole incident machine opens no more often than the budget allows.""",
    ),
    (
        "incident",
        """Opens when enough of an entity's last records are anomalous, or at once far above the threshold.""",
    ),
    (
        "share, observed, expected",
        """At an incident's opening: the feature's part of what is strange, its value, and the forecast from the records
        before, in the units of the input.""",
    ),
    (
        "p-value",
        """The calibrated chance that a normal record of this entity scores at least this high.""",
    ),
    ("judged", """Scored, and outside the range that the model was trained on for that entity."""),
    (
        "curves",
        """Time is cut into buckets of equal width, at most 1,024 an entity and fewer where there are thousands; each
        shows the lowest and the highest value that occurred in it, so no peak is lost. A bar marks a bucket that holds
        at least one such record, so what is short looks as wide as a bucket.""",
    ),
)

COMPARED: Final = (
    MEANINGS[0],
    (
        "PSI",
        """The population stability index: the sum of (a - e) ln(a / e) over the shares of the reference (e) and of the
        present (a) in the reference's deciles. Below 0.1 little has changed, above 0.25 much.""",
    ),
    (
        "limit",
        """What has to be exceeded: what chance does between two windows of these sizes, asked of the reference, and at
        least what is worth a word.""",
    ),
    (
        "moved",
        """A figure is beyond its limit.""",
    ),
    (
        "level moved",
        """Moved back by the difference of the medians it would not have moved.""",
    ),
    (
        "missing moved",
        """The share of records without the feature is another one, up or down.""",
    ),
    (
        "beyond the 95 % point",
        """The share of the present scores above what 5 % of the reference's exceed: alerts come from there.""",
    ),
    (
        "distance",
        """The Wasserstein distance: how far apart values of equal rank are, in the mean.""",
    ),
    (
        "latent",
        """What the model's autoencoder makes of each record's window: some eight numbers, the units. Both windows are
        taken as Gaussians, and their squared Frechet distance as a share of the reference's variance.""",
    ),
)
