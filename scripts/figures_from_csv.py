#!/usr/bin/env python3
"""A day's sales figures, added up from the Online Retail CSV without Stocktide: to be held against its daily report.

    scripts/figures_from_csv.py online-retail.csv.xz 2010-12-09 [--top N] [--report daily_report/date=2010-12-09/report.json]

Prints one JSON object; with --report also what differs there, and then ends with exit code 1. An invoice of digits with a
quantity above 0 is a sale, one that begins with C and has a quantity below 0 is a return. Rows below 0 without a C, and rows
without a price and a customer, correct stock and are no sales; bad debts (A...) and negative prices are left out. An invoice
belongs to the day of its earliest row. Products are upper-cased; those that do not begin with five digits are services, which are no top sellers.
Amounts are exact; the standard library is all it needs.
"""

import argparse
import csv
import datetime
import json
import lzma
import sys
from collections import defaultdict
from decimal import Decimal


def rows(path):
    opened = lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")
    with opened as file:
        return list(csv.DictReader(file))


def kind(row):
    """`sale`, `return`, or None for what is no part of sales."""
    invoice, quantity, price = row["InvoiceNo"], int(row["Quantity"]), Decimal(row["UnitPrice"])
    if invoice.startswith("C"):
        return "return" if quantity < 0 and price >= 0 else None
    if not invoice.isdigit() or quantity <= 0 or price < 0 or (price == 0 and not row["CustomerID"].strip()):
        return None
    return "sale"


def moment(row):
    return datetime.datetime.strptime(row["InvoiceDate"], "%m/%d/%Y %H:%M")


def exact(amount):
    """With two decimals, or as many as it needs."""
    whole, decimals = str(amount.quantize(Decimal("0.0001"))).split(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def top(sellers, order, number):
    ranked = sorted(sellers.items(), key=lambda seller: (*(-seller[1][name] for name in order), seller[0]))
    return [
        {"product_id": product, "units": sums["units"], "revenue": exact(sums["revenue"])}
        for product, sums in ranked[:number]
    ]


def figures(all_rows, date, number):
    began = {}
    for row in all_rows:
        began[row["InvoiceNo"]] = min(began.get(row["InvoiceNo"], moment(row)), moment(row))
    orders, returns = set(), set()
    lines = units = returned_units = 0
    gross = returned = Decimal(0)
    sellers = defaultdict(lambda: {"units": 0, "revenue": Decimal(0)})
    for row in all_rows:
        what = kind(row)
        if what is None or began[row["InvoiceNo"]].date() != date:
            continue
        quantity = int(row["Quantity"])
        value = quantity * Decimal(row["UnitPrice"])
        # Sales to customers are online orders, the others a store's: one invoice may be both.
        event = (row["InvoiceNo"], bool(row["CustomerID"].strip()))
        if what == "return":
            returns.add(event)
            returned_units -= quantity
            returned -= value
            continue
        orders.add(event)
        lines += 1
        units += quantity
        gross += value
        product = row["StockCode"].strip().upper()
        if product[:5].isdigit() and len(product) >= 5:
            sellers[product]["units"] += quantity
            sellers[product]["revenue"] += value
    return {
        "date": str(date),
        "orders": len(orders),
        "lines": lines,
        "units": units,
        "gross": exact(gross),
        # In this file what a C stands before is a return.
        "cancellations": 0,
        "cancelled_units": 0,
        "cancelled_value": "0.00",
        "returns": len(returns),
        "returned_units": returned_units,
        "returned_value": exact(returned),
        "net": exact(gross - returned),
        "average_order_value": str((gross / len(orders)).quantize(Decimal("0.01"), "ROUND_HALF_UP")) if orders else None,
        "by_units": top(sellers, ("units", "revenue"), number),
        "by_revenue": top(sellers, ("revenue", "units"), number),
    }


def differences(own, path, number):
    """Each figure of a report that is not the one added up here."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    theirs = {"date": report["day"]["date"], **report["sales"]["total"]}
    for name in ("by_units", "by_revenue"):
        names = ("product_id", "units", "revenue")
        theirs[name] = [{key: seller[key] for key in names} for seller in report["top_sellers"][name][:number]]
    return [f"{name}: {own[name]} here, {theirs.get(name)} there" for name in own if own[name] != theirs.get(name)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="the Online Retail data set or a part of it, as CSV or CSV.xz")
    parser.add_argument("date", type=datetime.date.fromisoformat, help="such as 2010-12-09")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="products in each list (default: 5)")
    parser.add_argument("--report", metavar="REPORT.JSON", help="a daily report to hold against it")
    arguments = parser.parse_args()
    own = figures(rows(arguments.file), arguments.date, arguments.top)
    print(json.dumps(own, indent=2))
    if arguments.report:
        differing = differences(own, arguments.report, arguments.top)
        print("\n".join(differing) or f"equal to {arguments.report}", file=sys.stderr)
        sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
