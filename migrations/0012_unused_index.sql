-- Nothing looks for a payment's events by their order: the order has its payments, and `verify` reads the whole table.
DROP INDEX payment_events_order_id;
