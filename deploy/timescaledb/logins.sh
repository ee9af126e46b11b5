#!/bin/sh
# Logins for the cloud and for Grafana, made by the image of PostgreSQL when its volume is still empty.
# `cloud migrate up` gives the two roles their rights on the tables (docs/site.md, Roles of PostgreSQL).
set -eu

# login <name> <role> <password>: none without a password.
login() {
    [ -n "$3" ] || return 0
    psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 -v name="$1" -v role="$2" -v password="$3" \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
SELECT format('CREATE ROLE %I NOLOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
CREATE ROLE :"name" LOGIN PASSWORD :'password' IN ROLE :"role";
SQL
}

login milepost_cloud milepost_writer "${MILEPOST_WRITER_PASSWORD:-}"
login milepost_grafana milepost_reader "${MILEPOST_READER_PASSWORD:-}"
