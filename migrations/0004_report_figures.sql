-- What a daily report needs beside the ledger.

-- A day's orders whose stated value was wrong. An order without that fault is not in the index: its insert costs a look at
-- one column, and its updates stay within the page as before.
CREATE INDEX order_headers_mismatch ON order_headers (ordered_at) WHERE value_mismatch;

-- What became of each day's records. partition_progress counts from the beginning, duplicates leave no row anywhere, and
-- the log ages out: so a day's report, made later, needs the day's own counts.
CREATE TABLE fates_by_day (
    day        date    NOT NULL,
    topic      text    NOT NULL,
    partition  integer NOT NULL,
    applied    bigint  NOT NULL DEFAULT 0,
    duplicates bigint  NOT NULL DEFAULT 0,
    rejected   bigint  NOT NULL DEFAULT 0,
    parked     bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (day, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE fates_by_day IS
    'by the business day on which each record was processed; over all days the sums are those of partition_progress';
COMMENT ON COLUMN fates_by_day.parked IS 'payments that began to wait less those that met their fate: may be below zero';

COMMENT ON COLUMN orders.quantity IS
    'negative on cancellations and returns; 0 where a cancellation found nothing left to give back';

-- A trigger, so that whoever moves the progress cannot forget it. It costs a batch one upsert per partition, of a row that
-- is in memory and that no other processor writes, whatever the batch's size.
CREATE FUNCTION note_fates_of_day() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fates_by_day AS f (day, topic, partition, applied, duplicates, rejected, parked)
    SELECT (coalesce(NEW.last_processed_at, now()) AT TIME ZONE timezone)::date, NEW.topic, NEW.partition,
           NEW.applied - OLD.applied, NEW.duplicates - OLD.duplicates, NEW.rejected - OLD.rejected, NEW.parked - OLD.parked
    FROM installation
    ON CONFLICT (day, topic, partition) DO UPDATE SET
        applied = f.applied + excluded.applied, duplicates = f.duplicates + excluded.duplicates,
        rejected = f.rejected + excluded.rejected, parked = f.parked + excluded.parked;
    RETURN NULL;
END $$;
CREATE TRIGGER note_fates_of_day AFTER UPDATE OF applied, duplicates, rejected, parked ON partition_progress
    FOR EACH ROW
    WHEN ((OLD.applied, OLD.duplicates, OLD.rejected, OLD.parked)
          IS DISTINCT FROM (NEW.applied, NEW.duplicates, NEW.rejected, NEW.parked))
    EXECUTE FUNCTION note_fates_of_day();

-- Of what has been processed before: by the log; the rest (duplicates, what has aged out) on the last day.
INSERT INTO fates_by_day (day, topic, partition, applied, rejected)
    SELECT (l.processed_at AT TIME ZONE i.timezone)::date, l.topic, l.partition,
           count(*) FILTER (WHERE l.status = 'applied'), count(*) FILTER (WHERE l.status = 'rejected')
    FROM events_log l CROSS JOIN installation i GROUP BY 1, 2, 3;
INSERT INTO fates_by_day AS f (day, topic, partition, applied, duplicates, rejected, parked)
    SELECT (p.last_processed_at AT TIME ZONE i.timezone)::date, p.topic, p.partition,
           p.applied - coalesce(s.applied, 0), p.duplicates, p.rejected - coalesce(s.rejected, 0), p.parked
    FROM partition_progress p CROSS JOIN installation i
    LEFT JOIN (SELECT topic, partition, sum(applied) AS applied, sum(rejected) AS rejected FROM fates_by_day GROUP BY 1, 2) s
        USING (topic, partition)
    WHERE p.last_processed_at IS NOT NULL
    ON CONFLICT (day, topic, partition) DO UPDATE SET
        applied = f.applied + excluded.applied, duplicates = f.duplicates + excluded.duplicates,
        rejected = f.rejected + excluded.rejected, parked = f.parked + excluded.parked;
