#!/bin/bash
# What of the official image's contract docker-compose.yml uses: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, each also as
# …_FILE, POSTGRES_INITDB_ARGS, and /docker-entrypoint-initdb.d, once, when the data directory is new.
set -euo pipefail

value_of() {
  local file="$1_FILE"
  if [ -n "${!file:-}" ]; then cat "${!file}"; else printf %s "${!1:-$2}"; fi
}

if [ "${1#-}" != "$1" ]; then set -- postgres "$@"; fi
if [ "$1" != postgres ]; then exec "$@"; fi

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  POSTGRES_PASSWORD=$(value_of POSTGRES_PASSWORD '')
  export POSTGRES_PASSWORD
  unset POSTGRES_PASSWORD_FILE
  exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=$(value_of POSTGRES_USER postgres)
  database=$(value_of POSTGRES_DB "$user")
  password=$(value_of POSTGRES_PASSWORD '')
  if [ -z "$password" ]; then
    echo 'Error: the database is new, and there is no password for its superuser: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE' >&2
    exit 1
  fi
  # shellcheck disable=SC2086
  initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 ${POSTGRES_INITDB_ARGS:-}
  printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" -w start
  export PGHOST=/var/run/postgresql PGUSER=$user
  if [ "$database" != postgres ]; then psql -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE \"$database\""; fi
  export PGDATABASE=$database POSTGRES_USER=$user POSTGRES_DB=$database
  for script in /docker-entrypoint-initdb.d/*; do
    case $script in
      *.sh)
        echo "running $script"
        # shellcheck disable=SC1090
        if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) echo "running $script"; psql -v ON_ERROR_STOP=1 -f "$script" ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGHOST PGUSER PGDATABASE
  echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
