"""Stock from Kafka as the tutorials show it: one record, one transaction; offsets are committed every 100 records.

The event_id in events_log keeps a record that comes again from counting twice. What is lost when it dies between the transaction and the
sending of the outputs stays lost: the record comes again, is found in the log, and nothing is sent.
"""

import os
import signal
import sys

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaException, Producer

from event import FIELDS, Catalogue, Event, Rejected, read

COMMIT_EVERY = 100
LOG = 'INSERT INTO events_log (event_id, topic, partition, "offset", raw_event) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING'
LINE = "INSERT INTO orders VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
ORDERED = "SELECT line_no, product_id, location_id, user_id, quantity, unit_price FROM orders WHERE order_id = %s AND kind = 'sale'"
STOCK = """UPDATE inventory SET quantity_on_hand = quantity_on_hand + %s WHERE product_id = %s AND location_id = %s
           RETURNING quantity_on_hand"""


def rows_of(cursor, event: Event) -> list[tuple]:
    """The event's lines as rows of orders: quantities are below zero where goods come back."""
    if event.kind == "cancellation":
        lines = cursor.execute(ORDERED, [event.business_id]).fetchall()
        if not lines:
            raise Rejected("unknown_order")
        return [
            (event.business_id, no, event.kind, product, location, user, -quantity, price, event.time, event.event_id)
            for no, product, location, user, quantity, price in lines
        ]
    sign = 1 if event.kind == "sale" else -1
    return [
        (event.business_id, no, event.kind, product, event.location_id, event.user_id, sign * quantity, price, event.time,
         event.event_id)
        for no, (product, quantity, price) in enumerate(event.lines, 1)
    ]


def apply(cursor, message, event: Event) -> list[dict]:
    """Writes an event unless it is known, and says what has changed."""
    source = message.topic()
    cursor.execute(LOG, [event.event_id, source, message.partition(), message.offset(), message.value().decode()])
    if cursor.rowcount == 0:
        return []
    rows = rows_of(cursor, event)
    deltas: dict[tuple, int] = {}
    for row in rows:
        if event.kind != "restock":
            cursor.execute(LINE, row)
        key = (row[3], row[4])
        deltas[key] = deltas.get(key, 0) - row[6]
    updates = []
    # In order, so that two of us never wait for each other.
    for (product_id, location_id), delta in sorted(deltas.items()):
        (quantity,) = cursor.execute(STOCK, [delta, product_id, location_id]).fetchone()
        updates.append({"event_id": event.event_id, "product_id": product_id, "location_id": location_id,
                        "delta": delta, "quantity_on_hand": quantity, "source": source})
    return updates


def delivered(error, _message):
    if error is not None:
        raise KafkaException(error)


def main():
    brokers = os.environ["KAFKA_BROKERS"]
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "python-simple", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False})
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5})
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    catalogue = Catalogue(connection)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    pending = 0

    def commit(*_):
        nonlocal pending
        producer.flush()
        if pending:
            consumer.commit(asynchronous=False)
            pending = 0

    consumer.subscribe(list(FIELDS), on_revoke=commit)
    while not stopping:
        message = consumer.poll(0.5)
        if message is None:
            commit()
            continue
        if message.error():
            raise KafkaException(message.error())
        try:
            event = read(message.topic(), message.value(), catalogue)
            with connection.transaction(), connection.cursor() as cursor:
                updates = apply(cursor, message, event)
        except Rejected as reason:
            producer.produce("dlq", message.value(), message.key(), headers={"reason": str(reason)}, on_delivery=delivered)
            updates = []
        for update in updates:
            producer.produce("inventory_updates", orjson.dumps(update), update["product_id"], on_delivery=delivered)
        producer.poll(0)
        pending += 1
        if pending == COMMIT_EVERY:
            commit()
    commit()
    consumer.close()
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
