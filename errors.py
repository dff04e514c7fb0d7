"""Every error a user can meet, on one page.

TocsinError                  anything foreseen; its text says what, where and what to do
├── SettingsError            a setting or a flag is wrong (exit code 2)
├── DataError                a data file or a topic holds what cannot be used
│   ├── TooFewRecords        not yet enough usable records to train on
│   └── NewerSchema          a message of a newer major version than this program reads
├── BrokerError              the broker refuses or cannot be reached
│   ├── BrokerUnavailable    nobody answers at the bootstrap address
│   ├── UnknownTopic         the topic does not exist
│   └── DeliveryFailed       a produced message was not acknowledged
├── ArtefactError            a model version cannot be trusted or read
│   ├── SignatureError       it is not signed by a trusted key
│   └── ModelNotFound        there is no such version
├── StateError               the changelog holds what cannot be restored
└── UnreadableTopic          most of a topic has become unreadable (the breaker)

A bug is any other exception: it is never caught to become a decision.
"""

from __future__ import annotations

LONGEST = 2000


class TocsinError(Exception):
    """Something foreseen went wrong; the message says what, where and what to do."""

    def __init__(self, text: str) -> None:
        # It may quote what somebody else wrote, however long and in characters that no encoding can write.
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} […] {text[-LONGEST // 2 :]}"
        super().__init__(text.encode("utf-8", "replace").decode())


class SettingsError(TocsinError):
    """A setting is missing, unknown, of the wrong type or out of its range."""


class DataError(TocsinError):
    """Data files or a topic do not hold what was asked for."""


class TooFewRecords(DataError):
    """No entity has as many usable records as a training needs; more of them would help."""


class NewerSchema(DataError):
    """A message was written by a newer program, in a form that this one does not read."""


class BrokerError(TocsinError):
    """The broker refused a request."""


class BrokerUnavailable(BrokerError):
    """No broker answers at the bootstrap address."""


class UnknownTopic(BrokerError):
    """A topic that is needed does not exist."""


class DeliveryFailed(BrokerError):
    """A produced message was not acknowledged."""


class ArtefactError(TocsinError):
    """A model version is corrupt, incomplete or of another format."""


class SignatureError(ArtefactError):
    """An artefact is unsigned, or signed by a key that is not trusted here."""


class ModelNotFound(ArtefactError):
    """There is no such model version in the registry."""


class StateError(TocsinError):
    """A changelog value is corrupt, of a newer format, or leaves a gap."""


class UnreadableTopic(TocsinError):
    """Most of a topic has become unreadable; going on would drain it into the dead letters."""
