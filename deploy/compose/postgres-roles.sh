#!/bin/bash
# Run once, by the image, when the data directory is new: the roles, and the database that one of them owns.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --dbname postgres \
  -v stocktide="$(cat /run/stocktide/stocktide_password)" -v grafana="$(cat /run/stocktide/grafana_database_password)" <<'SQL'
CREATE ROLE stocktide LOGIN PASSWORD :'stocktide';
CREATE DATABASE stocktide OWNER stocktide;
-- Reads all there is, writes nothing, and does not hold up the others for long.
CREATE ROLE grafana LOGIN PASSWORD :'grafana' CONNECTION LIMIT 20;
GRANT pg_read_all_data TO grafana;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '20s';
REVOKE CONNECT ON DATABASE stocktide FROM PUBLIC;
GRANT CONNECT ON DATABASE stocktide TO grafana;
SQL
