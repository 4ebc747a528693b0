-- What the HTTP API needs beside the rollups.

-- A product's movements, the newest first. An index by product would cost each line that is written; these say of 32 pages
-- together which products they may hold, and are brought up to date once a range of pages is full (docs/adr/0010).
CREATE INDEX orders_product ON orders USING brin (product_id text_bloom_ops) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX restock_lines_product ON restock_lines USING brin (product_id text_bloom_ops)
    WITH (pages_per_range = 32, autosummarize = on);
