"""A client whose calls do not come back: what waits for it goes on without."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import MagicMock

import pytest
from tocsin.pipelines.brokers import producer, transactions
from tocsin.pipelines.brokers.base import TransactionFailed
from tocsin.pipelines.brokers.transactions import KafkaTransactions

SETTINGS = {"bootstrap.servers": "nowhere:1", "transactional.id": "x"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """librdkafka's, as far as it is asked; nothing is on its way in it."""
    found = MagicMock()
    found.__len__.return_value = 0
    found.flush.return_value = 0
    monkeypatch.setattr(producer, "Producer", lambda _: found)
    monkeypatch.setattr(transactions, "GRACE_S", 0.1)
    return found


@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "commit_transaction"])
def test_a_commit_that_does_not_come_back_fails_and_the_client_is_left_to_itself(
    client: Any, call: str
) -> None:
    for_ever = threading.Event()
    getattr(client, call).side_effect = lambda *_: for_ever.wait(30)
    mine = KafkaTransactions(SETTINGS, request_s=0.1)
    mine.produce("t", b"x")
    with pytest.raises(TransactionFailed, match=r"did not come back within 0\.2 s"):
        mine.commit({("t", 0): 1}, MagicMock())
    mine.close()
    client.close.assert_not_called()
    assert mine.waiting == 0
    for_ever.set()


def test_a_beginning_that_does_not_come_back_fails(client: Any) -> None:
    for_ever = threading.Event()
    client.init_transactions.side_effect = lambda _: for_ever.wait(30)
    with pytest.raises(TransactionFailed, match="Beginning transactions at nowhere:1: the client did not"):
        KafkaTransactions(SETTINGS, request_s=0.1)
    for_ever.set()


def test_an_end_that_does_not_come_back_is_not_waited_for(client: Any) -> None:
    for_ever = threading.Event()
    client.close.side_effect = lambda: for_ever.wait(30)
    KafkaTransactions(SETTINGS, request_s=0.1).close()
    client.close.assert_called_once_with()
    for_ever.set()
