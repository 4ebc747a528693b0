"""Stock from Kafka by someone who knows how: batches of up to 5,000 records, each one transaction with COPY and one upsert of the stock.

The ids of all events so far are in memory, so that the database is not asked for each; its primary key has the last word. Offsets are
committed after the outputs have been acknowledged. What is lost when it dies between the transaction and the sending stays lost: the
records come again, their ids are known, and nothing is sent.
"""

import gc
import os
import signal
import struct
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from psycopg.errors import DeadlockDetected, UniqueViolation

from event import FIELDS, Catalogue, Rejected, read

BATCH = 5_000
QUIET_S = 3.0  # how long the group must be quiet before work begins
LOG = 'COPY events_log (event_id, topic, partition, "offset", raw_event) FROM STDIN (FORMAT binary)'
LINES = "COPY orders FROM STDIN"
KNOWN = "SELECT event_id FROM events_log WHERE event_id = ANY(%s::uuid[])"
ORDERED = """SELECT order_id, product_id, location_id, user_id, quantity, unit_price::text FROM orders
             WHERE kind = 'sale' AND order_id = ANY(%s) ORDER BY order_id, line_no"""
# Sorted, so that two of us never wait for each other.
STOCK = """INSERT INTO inventory SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[])
           ON CONFLICT (product_id, location_id) DO UPDATE SET quantity_on_hand = inventory.quantity_on_hand + excluded.quantity_on_hand
           RETURNING product_id, location_id, quantity_on_hand"""
SIGNATURE = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"  # of binary COPY, without flags and extension
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
TOPICS = {topic: struct.pack(">i", len(topic)) + topic.encode() for topic in FIELDS}


def escaped(text: str) -> str:
    """As COPY's text wants it; an id hardly ever needs it."""
    return text if text.isprintable() and "\\" not in text else text.translate(ESCAPES)


def log_row(message, event_id: bytes) -> bytes:
    raw = message.value()
    return b"".join((
        b"\0\5\0\0\0\x10", event_id, TOPICS[message.topic()],
        struct.pack(">iiiqi", 4, message.partition(), 8, message.offset(), len(raw)), raw,
    ))


class Batch:
    """What a batch of records comes to."""

    def __init__(self, messages, catalogue, known: set[bytes]):
        self.ends = {(message.topic(), message.partition()): message.offset() + 1 for message in messages}
        self.events = []  # (message, id as bytes, event)
        self.rejects = []  # (message, reason)
        self.unknown = []  # the same: cancellations of what was never ordered
        for message in messages:
            try:
                event = read(message.topic(), message.value(), catalogue)
            except Rejected as reason:
                self.rejects.append((message, str(reason)))
                continue
            event_id = bytes.fromhex(event.event_id.replace("-", ""))
            if event_id not in known:
                known.add(event_id)
                self.events.append((message, event_id, event))

    def forget(self, ids: set[bytes]):
        """Leaves out events that another instance has applied."""
        self.events = [entry for entry in self.events if entry[1] not in ids]

    def lines(self, cursor):
        """The rows of orders as COPY's text, and the changes of stock, event by event: (event, topic, product, location, delta)."""
        orders = self.cancelled_orders(cursor)
        rows, changes, applied, self.unknown = [], [], [], []
        for entry in self.events:
            message, _, event = entry
            event_id, kind, order_id, location, user, moment, lines = event
            sign = 1 if kind == "sale" else -1
            if kind == "cancellation":
                if orders[order_id] is None:
                    self.unknown.append((message, "unknown_order"))
                    continue
                location, user, lines = orders[order_id]
            elif kind == "sale" and order_id in orders:
                orders[order_id] = location, user, lines
            elif kind == "restock":
                sign = -1
            applied.append(entry)
            deltas = {}
            for product, quantity, _ in lines:
                deltas[product] = deltas.get(product, 0) - sign * quantity
            for product, delta in deltas.items():
                changes.append((event_id, message.topic(), product, location, delta))
            if kind != "restock":
                head, tail = f"{escaped(order_id)}\t", f"\t{moment}\t{event_id}\n"
                user = "\\N" if user is None else escaped(user)
                for no, (product, quantity, price) in enumerate(lines, 1):
                    price = "\\N" if price is None else price
                    rows.append(f"{head}{no}\t{kind}\t{product}\t{location}\t{user}\t{sign * quantity}\t{price}{tail}")
        self.events = applied
        return "".join(rows), changes

    def cancelled_orders(self, cursor) -> dict:
        """The lines of the orders that are cancelled here; None for one that is not in the database (it may come in this batch)."""
        orders = {event.business_id: None for _, _, event in self.events if event.kind == "cancellation"}
        if orders:
            for order_id, product, location, user, quantity, price in cursor.execute(ORDERED, [list(orders)]):
                if orders[order_id] is None:
                    orders[order_id] = location, user, []
                orders[order_id][2].append((product, quantity, price))
        return orders

    def store(self, connection) -> list[tuple]:
        """One transaction; what has changed, with the stock after each change."""
        with connection.transaction(), connection.cursor() as cursor:
            rows, changes = self.lines(cursor)
            with cursor.copy(LOG) as copy:
                copy.write(b"".join((SIGNATURE, *(log_row(message, id) for message, id, _ in self.events), b"\xff\xff")))
            with cursor.copy(LINES) as copy:
                copy.write(rows)
            deltas = defaultdict(int)
            for _, _, product, location, delta in changes:
                deltas[product, location] += delta
            keys = sorted(deltas)
            products, locations = [key[0] for key in keys], [key[1] for key in keys]
            found = cursor.execute(STOCK, [products, locations, [deltas[key] for key in keys]])
            after = {(product, location): quantity for product, location, quantity in found}
        # From the last change back to the first.
        told = []
        for change in reversed(changes):
            key = (change[2], change[3])
            told.append((*change, after[key]))
            after[key] -= change[4]
        told.reverse()
        return told


def apply(connection, batch: Batch) -> list[tuple]:
    while True:
        try:
            return batch.store(connection)
        except (UniqueViolation, DeadlockDetected):
            # Another instance has had some of these records, from before the group was rearranged.
            found = connection.execute(KNOWN, [[event.event_id for _, _, event in batch.events]])
            batch.forget({row[0].bytes for row in found})


def send(producer: Producer, batch: Batch, changes: list[tuple]):
    def produce(*arguments, **named):
        while True:
            try:
                return producer.produce(*arguments, **named)
            except BufferError:
                producer.poll(0.1)

    for event_id, source, product, location, delta, quantity in changes:
        update = {"event_id": event_id, "product_id": product, "location_id": location, "delta": delta,
                  "quantity_on_hand": quantity, "source": source}
        produce("inventory_updates", orjson.dumps(update), product)
    for message, reason in batch.rejects + batch.unknown:
        produce("dlq", message.value(), message.key(), headers={"reason": reason})
    # Without a time limit of its own (message.timeout.ms is 0) it returns when everything is acknowledged.
    producer.flush()


def failed(error: KafkaError):
    if error.fatal():
        raise KafkaException(error)
    print(error, file=sys.stderr)


class Group:
    """This instance's part of the group."""

    def __init__(self, brokers: str):
        self.consumer = Consumer({
            "bootstrap.servers": brokers, "group.id": "python-batch", "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "enable.auto.offset.store": False, "queued.min.messages": 100_000, "error_cb": failed,
        })
        self.changed = time.monotonic()
        self.settled = False
        self.consumer.subscribe(list(FIELDS), on_assign=self.assigned, on_revoke=self.revoked)

    def assigned(self, consumer, partitions):
        self.changed = time.monotonic()
        print(f"assigned {len(partitions)} partitions", file=sys.stderr)
        consumer.assign(partitions)
        if not self.settled:
            consumer.pause(partitions)

    def revoked(self, _consumer, _partitions):
        self.changed = time.monotonic()

    def settle(self, stopping: list):
        """Nothing is taken from a partition that may be handed on in the next moment."""
        while not stopping and (time.monotonic() - self.changed < QUIET_S or not self.consumer.assignment()):
            self.consumer.poll(0.1)
        self.settled = True
        self.consumer.resume(self.consumer.assignment())

    def take(self) -> list:
        messages = self.consumer.consume(BATCH, timeout=0.1)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        return messages

    def commit(self, ends: dict):
        """Exactly what was worked off, whatever else has been fetched meanwhile."""
        mine = {(part.topic, part.partition) for part in self.consumer.assignment()}
        offsets = [TopicPartition(*key, offset) for key, offset in ends.items() if key in mine]
        if offsets:
            self.consumer.commit(offsets=offsets, asynchronous=True)


def main():
    brokers = os.environ["KAFKA_BROKERS"]
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    producer = Producer({
        "bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4",
        "message.timeout.ms": 0, "error_cb": failed,
    })
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    catalogue = Catalogue(connection)
    known = {row[0].bytes for row in connection.execute("SELECT event_id FROM events_log")}
    # Nothing here is part of a cycle, and to look for cycles among the records of a batch takes time.
    gc.disable()
    # The thread that has its answer from the database should not wait long for the one that reads.
    sys.setswitchinterval(0.001)
    group = Group(brokers)
    group.settle(stopping)

    def work(batch: Batch) -> Batch:
        changes = apply(connection, batch) if batch.events else []
        send(producer, batch, changes)
        return batch

    # While the database works on one batch the next one is read.
    with ThreadPoolExecutor(1) as worker:
        working = None
        while not stopping:
            messages = group.take()
            batch = Batch(messages, catalogue, known) if messages else None
            if working:
                group.commit(working.result().ends)
            working = worker.submit(work, batch) if batch else None
        if working:
            group.commit(working.result().ends)
    group.consumer.close()
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
