"""A real Apache Kafka on the loopback, one node or three, from the jars that `make kafka` fetches.

    with Rig(directory) as rig:
        KafkaBroker(rig.bootstrap)

Nodes always end with the rig: on an exception, at interpreter exit, and (where `setpriv` is there) when the
process that started them is killed.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rigs.certificates import Authority

LIB = Path(__file__).resolve().parents[1] / "kafka" / "lib"
START_S = 60.0
STOP_S = 10.0

LOGINS = "org.apache.kafka.common.security"
LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRefs = console
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c: %m%n
"""


def missing() -> str | None:
    """Why there can be no Kafka here, with the line that helps; None if there can."""
    if shutil.which("java") is None:
        return "Java 17 is missing: `make system` (as root), then `make kafka`"
    if not (LIB / ".fetched").exists():
        return "the Kafka jars are missing: `make system` (as root), then `make kafka`"
    return None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held while searching, so they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Node:
    """One broker and controller, with its ports and its directory; they stay the same over restarts."""

    def __init__(self, number: int, directory: Path, java: list[str]) -> None:
        self.number = number
        self.directory = directory
        self.port, self.controller_port, self.login_port, self.secure_port = free_ports(4)
        self.settings = directory / "server.properties"
        self.log = directory / "node.log"
        self._java = java
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def write(self, settings: Mapping[str, object]) -> None:
        self.directory.mkdir(parents=True)
        (self.directory / "log4j2.properties").write_text(LOG4J)
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def format(self, cluster: str, users: Mapping[str, str]) -> subprocess.Popen[bytes]:
        scram = [f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in users.items()]
        added = [word for one in scram for word in ("--add-scram", one)]
        return self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self.settings), *added)

    def start(self) -> None:
        assert not self.running, f"node {self.number} runs already"
        self._process = self._run("kafka.Kafka", str(self.settings))

    def stop(self, *, kill: bool = False) -> None:
        """End the process, by SIGTERM (a controlled shutdown) or SIGKILL; its data stay."""
        self.signal(signal.SIGKILL if kill else signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self._process.wait()
            self._process = None

    def signal(self, how: signal.Signals) -> None:
        """Send a signal to the node's process group, if it runs."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        logging = f"-Dlog4j2.configurationFile=file:{self.directory / 'log4j2.properties'}"
        command = [*guard, "java", *self._java, logging, "-cp", f"{LIB}/*", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


class Rig:
    """A cluster of `nodes` nodes under `directory` (made by the rig, and removed at its end).

    `users` (name -> password) opens one more listener on each node, SASL_PLAINTEXT with PLAIN, at
    `login_bootstrap`: what comes through it needs ACLs, while the plain listener may do everything. And another,
    SASL_SSL with PLAIN, SCRAM-SHA-512 and unsecured OAUTHBEARER, at `secure_bootstrap`, whose certificate is of
    `authority` and good for `localhost`. `quick` trades peak speed for a quick start; benchmarks want it off.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 1,
        *,
        users: Mapping[str, str] | None = None,
        quick: bool = True,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.directory = directory
        heap = ["-Xms192m", "-Xmx384m"] if nodes > 1 else ["-Xms256m", "-Xmx512m"]
        java = [*heap, "-XX:+UseSerialGC", *(["-XX:TieredStopAtLevel=1"] if quick else [])]
        self.nodes = [Node(number, directory / f"node{number}", java) for number in range(1, nodes + 1)]
        self._users = dict(users or {})
        self.authority: Authority | None = None
        self._settings = dict(settings or {})

    @property
    def bootstrap(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def login_bootstrap(self) -> str:
        assert self._users, "the rig was made without users"
        return ",".join(f"127.0.0.1:{node.login_port}" for node in self.nodes)

    @property
    def secure_bootstrap(self) -> str:
        assert self._users, "the rig was made without users"
        return ",".join(f"localhost:{node.secure_port}" for node in self.nodes)

    def __enter__(self) -> Rig:
        atexit.register(self.close)
        try:
            self._format()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the nodes that do not run, and wait until all serve."""
        for node in self.nodes:
            if not node.running:
                node.start()
        self.wait()

    def stop(self, *, kill: bool = False) -> None:
        """Stop all nodes and keep their data; `start` goes on from there."""
        for node in self.nodes:
            node.signal(signal.SIGKILL if kill else signal.SIGTERM)
        for node in self.nodes:
            node.stop(kill=kill)

    def close(self) -> None:
        """Kill all nodes and remove their data; a second call does nothing."""
        self.stop(kill=True)
        atexit.unregister(self.close)
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait(self) -> None:
        """Until every node that runs answers a metadata request, and knows them all and a controller."""
        give_up = time.monotonic() + START_S
        running = [node for node in self.nodes if node.running]
        clients = [AdminClient({"bootstrap.servers": node.address, "log_level": 0}) for node in running]
        while not all(self._serves(client, len(running)) for client in clients):
            dead = [node for node in running if not node.running]
            if dead or time.monotonic() > give_up:
                text = "\n".join(f"node {node.number}: {node.tail()}" for node in dead or running)
                raise RuntimeError(f"Kafka did not start:\n{text}")
            time.sleep(0.05)

    @staticmethod
    def _serves(client: AdminClient, nodes: int) -> bool:
        try:
            found = client.list_topics(timeout=1)
        except KafkaException:
            return False
        return len(found.brokers) >= nodes and found.controller_id > 0

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        for node in self.nodes:
            node.write({**self._common(), **self._own(node), **self._settings})
        running = [(node, node.format(cluster, self._users)) for node in self.nodes]
        for node, process in running:
            if process.wait(START_S) != 0:
                raise RuntimeError(f"Kafka's storage could not be formatted:\n{node.tail()}")

    def _common(self) -> dict[str, object]:
        copies = min(3, len(self.nodes))
        enough = 2 if copies == 3 else 1
        common: dict[str, object] = {
            "process.roles": "broker,controller",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": ",".join(
                f"{node.number}@127.0.0.1:{node.controller_port}" for node in self.nodes
            ),
            "default.replication.factor": copies,
            "min.insync.replicas": enough,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": enough,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": enough,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "log.cleaner.dedupe.buffer.size": 16 << 20,
            "log.retention.ms": -1,  # tests write records of other years, which retention would take in their midst
        }
        if len(self.nodes) > 1:
            common |= {"broker.session.timeout.ms": 3000, "broker.heartbeat.interval.ms": 500}
        return common

    def _own(self, node: Node) -> dict[str, object]:
        listeners = {"PLAINTEXT": node.port, "CONTROLLER": node.controller_port}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        own: dict[str, object] = {"node.id": node.number, "log.dirs": node.directory / "data"}
        if self._users:
            listeners |= {"LOGIN": node.login_port, "SECURE": node.secure_port}
            protocols |= {"LOGIN": "SASL_PLAINTEXT", "SECURE": "SASL_SSL"}
            known = " ".join(f'user_{name}="{password}"' for name, password in self._users.items())
            own |= {
                "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
                "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
                "listener.name.login.plain.sasl.jaas.config": f"{LOGINS}.plain.PlainLoginModule required {known};",
                "listener.name.secure.plain.sasl.jaas.config": f"{LOGINS}.plain.PlainLoginModule required {known};",
                "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{LOGINS}.scram.ScramLoginModule required;",
                "listener.name.secure.oauthbearer.sasl.jaas.config": (
                    f'{LOGINS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="none";'
                ),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self._keystore(),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        own["listeners"] = ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
        own["advertised.listeners"] = ",".join(
            f"{name}://{'localhost' if name == 'SECURE' else '127.0.0.1'}:{port}"
            for name, port in listeners.items()
            if name != "CONTROLLER"
        )
        own["listener.security.protocol.map"] = ",".join(f"{name}:{kind}" for name, kind in protocols.items())
        return own

    def _keystore(self) -> Path:
        """Key and certificate of all nodes in one PEM file, of an authority that is made with the first."""
        if self.authority is None:
            self.authority = Authority(self.directory / "certificates")
        certificate, key = self.authority.issue("localhost")
        store = certificate.with_name("keystore.pem")
        store.write_bytes(key.read_bytes() + certificate.read_bytes() + self.authority.file.read_bytes())
        return store
