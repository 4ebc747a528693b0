-- A reject without an event_id may get one by the way it is sent again: from then on that is the event it is known by. And what was
-- discarded in between is no replay; nor is a payment applied that waits for its order.

COMMENT ON COLUMN dlq_actions.reason IS 'with rejected_at: of the reject, kept here because its log ages out';
COMMENT ON COLUMN dlq_actions.event_id IS 'of the value that was sent, or given up';

CREATE OR REPLACE VIEW dlq_records AS
    SELECT l.topic, l.partition, l."offset", l.processed_at AS rejected_at, l.reason, l.detail,
           coalesce(l.event_id, a.event_id) AS event_id, l.redacted,
           l.record_key, l.raw_event, l.header_names, l.header_values,
           CASE WHEN a.action = 'discarded' THEN 'discarded'
                WHEN a.action IS NOT NULL AND a.done_at IS NULL THEN 'pending'
                WHEN EXISTS (SELECT FROM applied_events e WHERE e.event_id = coalesce(l.event_id, a.event_id))
                     AND NOT (l.topic = 'payments' AND EXISTS (
                         SELECT FROM parked_payments k WHERE k.partition = l.partition AND k."offset" = a.sent_offset
                     )) THEN 'applied'
                ELSE coalesce(a.action, 'open') END AS state,
           coalesce(a.attempt, 0) AS attempts, a.action, coalesce(a.done_at, a.intended_at) AS handled_at,
           a.by_whom AS handled_by, a.note, a.edited, a.sent_offset, coalesce(p.replays, 0) AS replays,
           coalesce(a.resent, 0) AS resent
    FROM events_log l
    LEFT JOIN LATERAL (
        SELECT d.attempt, d.action, d.intended_at, d.done_at, d.by_whom, d.note, d.edited, d.sent_offset,
               first_value(d.event_id) OVER (ORDER BY d.event_id IS NULL, d.attempt) AS event_id,
               count(*) FILTER (WHERE d.action = 'replayed') OVER () AS resent
        FROM dlq_actions d WHERE d.topic = l.topic AND d.partition = l.partition AND d."offset" = l."offset"
        ORDER BY d.attempt DESC LIMIT 1
    ) a ON true
    LEFT JOIN dlq_actions p ON p.topic = l.topic AND p.partition = l.partition AND p.sent_offset = l."offset"
    WHERE l.status = 'rejected';
COMMENT ON COLUMN dlq_records.event_id IS 'where the record has none, that of the value that was first sent in its place';
COMMENT ON COLUMN dlq_records.resent IS 'how often this very record was sent again';
