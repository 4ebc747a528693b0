-- What lets a daily report be made again as it was, and again when it has to be.

ALTER TABLE reports
    ADD COLUMN as_of        timestamptz,
    ADD COLUMN ledger_lines bigint;
COMMENT ON COLUMN reports.as_of IS 'when the snapshot was taken that the figures were read in last';
COMMENT ON COLUMN reports.ledger_lines IS
    'lines of orders and restock_lines with a timestamp of the day in that snapshot; now more of them: out of date';

-- A row of stock.csv with 0 in it is stock that has run out; a row that an event made was not there before.
ALTER TABLE inventory ADD COLUMN loaded boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN inventory.loaded IS 'it was loaded with the catalogue, be it with 0; false: an event made it, or it has opening stock';
UPDATE inventory SET loaded = true WHERE opening_quantity = 0 AND version = 0;

CREATE TABLE rejects_by_day (
    day     date   NOT NULL,
    topic   text   NOT NULL,
    reason  text   NOT NULL,
    records bigint NOT NULL,
    PRIMARY KEY (day, topic, reason)
);
COMMENT ON TABLE rejects_by_day IS
    'rejected records that are not in events_log any more, by the business day on which they were processed';
