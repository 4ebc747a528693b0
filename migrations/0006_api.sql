-- What the HTTP API needs beside the rollups (docs/adr/0011).

-- A product's movements, the newest first. An index by product would cost each line that is written; these say of 32 pages
-- together which products they may hold, and are brought up to date once a range of pages is full.
CREATE INDEX orders_product ON orders USING brin (product_id text_bloom_ops) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX restock_lines_product ON restock_lines USING brin (product_id text_bloom_ops)
    WITH (pages_per_range = 32, autosummarize = on);

-- The users who spent or ordered most. Indexes on user_stats would make each of its updates write into every index of it; this
-- table holds those few at the top, and is kept in the same transaction.
CREATE TABLE top_users (
    user_id text    PRIMARY KEY,
    spend   numeric NOT NULL,
    orders  bigint  NOT NULL
);
CREATE INDEX top_users_spend ON top_users (spend DESC, user_id);
CREATE INDEX top_users_orders ON top_users (orders DESC, user_id);
COMMENT ON TABLE top_users IS 'every user at or above one of the floors in top_users_floor, as user_stats has them, and perhaps a few more';
COMMENT ON COLUMN top_users.spend IS 'gross - cancelled_value - returned_value';

CREATE TABLE top_users_floor (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    spend    numeric NOT NULL,
    orders   bigint  NOT NULL
);
COMMENT ON COLUMN top_users_floor.spend IS 'who spent as much is in top_users; -Infinity: everybody is';
COMMENT ON COLUMN top_users_floor.orders IS 'who ordered as often is in top_users; 0: everybody is';
INSERT INTO top_users_floor (spend, orders) VALUES ('-Infinity', 0);

-- Raises the floors so far that about 5,000 users stand above each, and forgets those below both.
CREATE FUNCTION raise_top_users_floor() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    by_spend  numeric;
    by_orders bigint;
BEGIN
    SELECT t.spend INTO by_spend FROM top_users t ORDER BY t.spend DESC OFFSET 4999 LIMIT 1;
    SELECT t.orders INTO by_orders FROM top_users t ORDER BY t.orders DESC OFFSET 4999 LIMIT 1;
    IF by_spend IS NULL OR by_orders IS NULL THEN
        RETURN;
    END IF;
    UPDATE top_users_floor f SET spend = greatest(f.spend, by_spend), orders = greatest(f.orders, by_orders);
    -- A row that somebody else has in hand stays: one too many does no harm, and waiting for it could be a deadlock.
    DELETE FROM top_users WHERE user_id IN (
        SELECT t.user_id FROM top_users t CROSS JOIN top_users_floor f WHERE t.spend < f.spend AND t.orders < f.orders
        FOR UPDATE OF t SKIP LOCKED);
END $$;

-- A trigger, so that whoever writes the statistics cannot forget it; once a statement, for the few rows that matter. Whoever
-- gets here holds the users' own rows, so nobody waits for anybody here.
CREATE FUNCTION note_top_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    noted bigint;
BEGIN
    INSERT INTO top_users AS t (user_id, spend, orders)
    SELECT c.user_id, c.gross - c.cancelled_value - c.returned_value, c.orders
    FROM changed c CROSS JOIN top_users_floor f
    WHERE c.gross - c.cancelled_value - c.returned_value >= f.spend OR c.orders >= f.orders
       -- Who is in must not stay there with more than is true.
       OR ((c.cancelled_value > 0 OR c.returned_value > 0) AND EXISTS (SELECT FROM top_users k WHERE k.user_id = c.user_id))
    ON CONFLICT (user_id) DO UPDATE SET spend = excluded.spend, orders = excluded.orders;
    GET DIAGNOSTICS noted = ROW_COUNT;
    -- Looked at the more often the more is written, and by one at a time.
    IF random() < noted / 5000.0 AND pg_try_advisory_xact_lock(hashtext('top_users')) THEN
        IF (SELECT count(*) FROM top_users) > 20000 THEN
            PERFORM raise_top_users_floor();
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_new_top_users AFTER INSERT ON user_stats REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_top_users();
CREATE TRIGGER note_top_users AFTER UPDATE ON user_stats REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_top_users();

INSERT INTO top_users SELECT user_id, gross - cancelled_value - returned_value, orders FROM user_stats;
SELECT raise_top_users_floor() WHERE (SELECT count(*) FROM top_users) > 20000;
