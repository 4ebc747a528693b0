-- What lets the services work without owning the schema (services/store/src/roles.rs has who may do what).

-- The functions that change the schema run with their owner's rights, find nothing but what is in this schema, and may be
-- called by those only who were given the right to.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION ensure_events_log_partition(timestamptz) SECURITY DEFINER SET search_path = %I, pg_temp',
                   current_schema());
END $$;
REVOKE EXECUTE ON FUNCTION ensure_events_log_partition(timestamptz) FROM PUBLIC;

-- Keeps a month of the log as it is until the end of the transaction: nobody writes into it meanwhile.
CREATE FUNCTION lock_events_log_month(month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name text := 'events_log_' || to_char(month, 'YYYYMM');
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', CASE WHEN to_regclass(name) IS NULL THEN 'events_log_default' ELSE name END);
END $$;

-- Takes a month out of the log; whether it is old enough, and needed by nobody any more, the caller has to know.
CREATE FUNCTION drop_events_log_month(month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name    text := 'events_log_' || to_char(month, 'YYYYMM');
    begins  timestamptz := date_trunc('month', month)::timestamp AT TIME ZONE 'UTC';
    ends    timestamptz := (date_trunc('month', month)::timestamp + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(name) IS NULL THEN
        DELETE FROM events_log_default WHERE processed_at >= begins AND processed_at < ends;
    ELSE
        EXECUTE format('DROP TABLE %I', name);
    END IF;
END $$;

DO $$
DECLARE
    function text;
BEGIN
    FOREACH function IN ARRAY ARRAY['lock_events_log_month(date)', 'drop_events_log_month(date)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', function, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
