"""Reads an event, or says what is wrong with it. Both Python rivals use it."""

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import NamedTuple

import orjson

CURRENCY = "GBP"
MAX_DEPTH = 32
MAX_UNITS = 10_000_000
EARLIEST = datetime(2000, 1, 1, tzinfo=timezone.utc)
STARTED = datetime.now(timezone.utc)

# Of each topic: its business id, its time, its location, and what a line's price is called.
FIELDS = {
    "online_orders": ("order_id", "order_timestamp", "location_id", "price_per_unit"),
    "store_sales": ("sale_id", "sold_at", "store_id", "price_per_unit"),
    "supplier_restocks": ("restock_id", "received_at", "location_id", "unit_cost"),
}
KINDS = {
    ("online_orders", "placed"): "sale",
    ("online_orders", "returned"): "return",
    ("online_orders", "cancelled"): "cancellation",
    ("online_orders", "shipped"): "status",
    ("online_orders", "delivered"): "status",
    ("store_sales", "sold"): "sale",
    ("store_sales", "returned"): "return",
    ("supplier_restocks", "received"): "restock",
    ("supplier_restocks", "adjustment"): "restock",
}
DEFAULTS = {"online_orders": "placed", "store_sales": "sold", "supplier_restocks": "received"}
# What is checked by name; anything else is only searched for what must not be there.
CHECKED = {"event_id", "type", "items", "currency", "supplier_id", "original_id", "user_id", "order_value", "total"}
CHECKED.update(name for names in FIELDS.values() for name in names)

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
AMOUNT = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,4})?").fullmatch
CARD = re.compile(r"(?<![\w-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-])").finditer


class Rejected(Exception):
    """The reason goes into the record's header in dlq."""


class Event(NamedTuple):
    event_id: str
    kind: str
    business_id: str
    location_id: str
    user_id: str | None
    time: str
    lines: list[tuple[str, int, str | None]]  # product, quantity, price


class Catalogue:
    """What is known before the first event."""

    def __init__(self, connection):
        def column(query):
            return {row[0] for row in connection.execute(query)}

        self.products = column("SELECT product_id FROM products")
        self.locations = column("SELECT location_id FROM locations")
        self.suppliers = column("SELECT supplier_id FROM suppliers")


def read(topic: str, value: bytes | None, catalogue: Catalogue) -> Event:
    try:
        event = orjson.loads(value)
    except (TypeError, orjson.JSONDecodeError) as error:
        raise Rejected("malformed_json") from error
    if type(event) is not dict:
        raise Rejected("malformed_json")
    id_field, time_field, location_field, price_field = FIELDS[topic]
    event_id, business_id, time = event.get("event_id"), event.get(id_field), event.get(time_field)
    if type(event_id) is not str or not UUID(event_id) or type(time) is not str or not RFC_3339(time):
        raise Rejected("schema_violation")
    kind_field = event.get("type") or DEFAULTS[topic]
    kind = KINDS.get((topic, kind_field)) if type(kind_field) is str else None
    if kind is None:
        raise Rejected("schema_violation")
    for name in event.keys() - CHECKED:
        search(event[name], 2)
    check_time(time)
    if event.get("currency") not in (None, CURRENCY):
        raise Rejected("currency_mismatch")
    if event.get("supplier_id") is not None and text(event["supplier_id"]) not in catalogue.suppliers:
        raise Rejected("unknown_supplier")
    location_id = event.get(location_field)
    location_id = "online" if location_id is None and topic == "online_orders" else text(location_id)
    if location_id not in catalogue.locations:
        raise Rejected("unknown_location")
    lines = []
    if kind not in ("status", "cancellation"):
        items = event.get("items")
        if type(items) is not list or not items:
            raise Rejected("schema_violation")
        signed = kind_field == "adjustment"
        lines = [read_line(item, price_field, signed, catalogue) for item in items]
    user_id = event.get("user_id")
    return Event(event_id, kind, text(business_id), location_id, user_id and text(user_id), time, lines)


def read_line(item, price_field: str, signed: bool, catalogue: Catalogue) -> tuple[str, int, str | None]:
    if type(item) is not dict:
        raise Rejected("schema_violation")
    product_id, quantity, price = text(item.get("product_id")), item.get("quantity"), item.get(price_field)
    if product_id not in catalogue.products:
        raise Rejected("unknown_product")
    if type(quantity) is not int or not 1 <= (abs(quantity) if signed else quantity) <= MAX_UNITS:
        raise Rejected("invalid_quantity")
    if price is not None:
        price = str(price)
        if not is_amount(price):
            raise Rejected("invalid_price")
    if len(item) > 3:
        search({name: item[name] for name in item.keys() - {"product_id", "quantity", price_field}}, 3)
    return product_id, quantity, price


@lru_cache(100_000)
def is_amount(price: str) -> bool:
    """A shop has many more lines than prices."""
    return AMOUNT(price) is not None


def text(value) -> str:
    """An id: text, or a whole number."""
    if type(value) is int:
        return str(value)
    if type(value) is not str or not 1 <= len(value) <= 256 or "\0" in value:
        raise Rejected("schema_violation")
    return value


def check_time(time: str) -> None:
    try:
        moment = datetime.fromisoformat(time)
        # Hardly any is so new that the clock must be asked.
        sound = EARLIEST <= moment <= STARTED or STARTED < moment <= datetime.now(timezone.utc) + timedelta(days=1)
    except (ValueError, TypeError) as error:
        raise Rejected("schema_violation") from error
    if not sound:
        raise Rejected("timestamp_out_of_range")


def search(value, depth: int) -> None:
    """Looks for nesting that is too deep and for card numbers."""
    if type(value) is str:
        # A card number has 13 digits or more.
        for found in CARD(value) if len(value) > 12 else ():
            if luhn([int(sign) for sign in found[0] if sign.isdigit()]):
                raise Rejected("card_number")
    elif type(value) in (dict, list):
        if depth > MAX_DEPTH:
            raise Rejected("too_large")
        for inner in value.values() if type(value) is dict else value:
            search(inner, depth + 1)


def luhn(digits: list[int]) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1, annex B)."""
    doubled = [2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
