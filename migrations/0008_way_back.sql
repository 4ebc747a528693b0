-- The way back from the dead-letter queue: what was done with a rejected record. And: which users were forgotten.

CREATE TABLE dlq_actions (
    topic        text    NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint  NOT NULL,
    attempt      integer NOT NULL CHECK (attempt > 0),
    action       text    NOT NULL CHECK (action IN ('replayed', 'discarded')),
    run_id       uuid    NOT NULL,
    replay_id    uuid    UNIQUE,
    intended_at  timestamptz NOT NULL,
    done_at      timestamptz,
    by_whom      text    NOT NULL,
    note         text,
    reason       text,
    rejected_at  timestamptz NOT NULL,
    event_id     uuid,
    edited       boolean NOT NULL DEFAULT false,
    value_sha256 bytea,
    replays      integer NOT NULL CHECK (replays >= 0),
    search_from  bigint,
    sent_offset  bigint,
    PRIMARY KEY (topic, partition, "offset", attempt),
    CHECK ((action = 'replayed') = (replay_id IS NOT NULL)),
    CHECK (action = 'replayed' OR done_at IS NOT NULL)
);
COMMENT ON TABLE dlq_actions IS 'what was done with a rejected record, when and by whom; the record is the one at topic, partition and offset';
COMMENT ON COLUMN dlq_actions.attempt IS 'from 1; further ones only where somebody asked for it explicitly';
COMMENT ON COLUMN dlq_actions.run_id IS 'the run of the command';
COMMENT ON COLUMN dlq_actions.replay_id IS 'stands in the header stocktide.replay.id of the record that was sent';
COMMENT ON COLUMN dlq_actions.intended_at IS 'written down before the record is sent';
COMMENT ON COLUMN dlq_actions.done_at IS 'null: the run broke off, and the next one finds out whether the record was sent';
COMMENT ON COLUMN dlq_actions.reason IS 'with rejected_at and event_id: of the reject, kept here because its log ages out';
COMMENT ON COLUMN dlq_actions.edited IS 'whether another value than the reject''s was sent';
COMMENT ON COLUMN dlq_actions.value_sha256 IS 'of the value that was sent; null for a tombstone';
COMMENT ON COLUMN dlq_actions.replays IS 'how often the record has been replayed with this time, its earlier rejects counted';
COMMENT ON COLUMN dlq_actions.search_from IS 'the end of the partition before the record was sent: where to look for it';
COMMENT ON COLUMN dlq_actions.sent_offset IS 'where it lies now, in the same topic and partition';
CREATE UNIQUE INDEX dlq_actions_sent ON dlq_actions (topic, partition, sent_offset) WHERE sent_offset IS NOT NULL;
CREATE INDEX dlq_actions_pending ON dlq_actions (topic, partition) WHERE done_at IS NULL;

CREATE VIEW dlq_records AS
    SELECT l.topic, l.partition, l."offset", l.processed_at AS rejected_at, l.reason, l.detail, l.event_id, l.redacted,
           l.record_key, l.raw_event, l.header_names, l.header_values,
           CASE WHEN a.action = 'discarded' THEN 'discarded'
                WHEN a.action IS NOT NULL AND a.done_at IS NULL THEN 'pending'
                WHEN EXISTS (SELECT FROM applied_events e WHERE e.event_id = l.event_id) THEN 'applied'
                ELSE coalesce(a.action, 'open') END AS state,
           coalesce(a.attempt, 0) AS attempts, a.action, coalesce(a.done_at, a.intended_at) AS handled_at,
           a.by_whom AS handled_by, a.note, a.edited, a.sent_offset, coalesce(p.replays, 0) AS replays
    FROM events_log l
    LEFT JOIN LATERAL (
        SELECT d.attempt, d.action, d.intended_at, d.done_at, d.by_whom, d.note, d.edited, d.sent_offset
        FROM dlq_actions d WHERE d.topic = l.topic AND d.partition = l.partition AND d."offset" = l."offset"
        ORDER BY d.attempt DESC LIMIT 1
    ) a ON true
    LEFT JOIN dlq_actions p ON p.topic = l.topic AND p.partition = l.partition AND p.sent_offset = l."offset"
    WHERE l.status = 'rejected';
COMMENT ON VIEW dlq_records IS
    'rejected records of the log and what became of them: open, pending (a replay broke off), replayed, applied (their event was, since), discarded';
COMMENT ON COLUMN dlq_records.replays IS 'how often it had been replayed before it was rejected here';

-- The earlier rejects of a record that came back, the latest first.
CREATE FUNCTION dlq_history(of_topic text, of_partition integer, of_offset bigint)
    RETURNS TABLE ("offset" bigint, attempt integer, rejected_at timestamptz, reason text, replayed_at timestamptz, by_whom text, edited boolean)
    LANGUAGE sql STABLE AS $$
    WITH RECURSIVE earlier AS (
        SELECT d.* FROM dlq_actions d
        WHERE d.topic = of_topic AND d.partition = of_partition AND d.sent_offset = of_offset
        UNION ALL
        -- A record is sent to where it is not yet, so the offsets fall.
        SELECT d.* FROM earlier e JOIN dlq_actions d
            ON d.topic = of_topic AND d.partition = of_partition AND d.sent_offset = e."offset" AND d."offset" < e."offset"
    )
    SELECT e."offset", e.attempt, e.rejected_at, e.reason, coalesce(e.done_at, e.intended_at), e.by_whom, e.edited
    FROM earlier e ORDER BY e."offset" DESC
$$;

-- Users who were forgotten. Whether somebody is among them can be asked by their user_id, and nobody can be read out of it.
CREATE TABLE forgotten_users (
    token        text PRIMARY KEY,
    salt         bytea NOT NULL,
    digest       bytea NOT NULL,
    forgotten_at timestamptz NOT NULL,
    by_whom      text NOT NULL,
    orders       bigint NOT NULL,
    log_rows     bigint NOT NULL
);
COMMENT ON COLUMN forgotten_users.token IS 'stands wherever the user_id stood';
COMMENT ON COLUMN forgotten_users.digest IS 'SHA-256 of salt and user_id';
COMMENT ON COLUMN forgotten_users.forgotten_at IS 'the last time';
COMMENT ON COLUMN forgotten_users.orders IS 'with log_rows: how many of them the user_id and the address were taken from, of all times';

ALTER TABLE events_log ADD COLUMN erased_at timestamptz;
COMMENT ON COLUMN events_log.erased_at IS 'when a user was forgotten whom it named: raw_event is no longer the record''s';
