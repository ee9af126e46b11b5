-- The first tables. Works on PostgreSQL 15 or newer, with and without TimescaleDB.
--
-- The extension is never created here: where it is installed and not preloaded, CREATE EXTENSION
-- ends the session and cannot be caught. Whoever runs the server creates it, before or after.
-- `SET milepost.timescale = 'off'` keeps ordinary tables although the extension is there.

CREATE TABLE devices (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    imei       bigint UNIQUE,
    ident      text UNIQUE,
    vendor     text NOT NULL DEFAULT 'teltonika',
    model      text,
    name       text,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    CHECK (num_nonnulls(imei, ident) = 1)
);
COMMENT ON TABLE devices IS 'Every tracker that ever spoke. imei, or ident for what has no IMEI.';
COMMENT ON COLUMN devices.last_seen IS 'Gateway clock at the last envelope';

CREATE TABLE positions (
    device_id           integer NOT NULL,
    fix_time            timestamptz NOT NULL,
    record_hash         integer NOT NULL,
    received_at         timestamptz NOT NULL,
    stored_at           timestamptz NOT NULL DEFAULT now(),
    latitude            double precision NOT NULL,
    longitude           double precision NOT NULL,
    odometer_m          bigint,
    heading_deg         integer NOT NULL,
    speed_kmh           integer NOT NULL,
    event_io_id         integer NOT NULL,
    external_voltage_mv integer,
    battery_voltage_mv  integer,
    altitude_m          smallint NOT NULL,
    satellites          smallint NOT NULL,
    priority            smallint NOT NULL,
    generation_type     smallint,
    gsm_signal          smallint,
    valid               boolean NOT NULL,
    ignition            boolean,
    movement            boolean,
    io                  jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (device_id, fix_time, record_hash)
);
COMMENT ON TABLE positions IS 'One row per AVL record. Two different records of one instant both live; a resent one does not.';
COMMENT ON COLUMN positions.fix_time IS 'Device clock';
COMMENT ON COLUMN positions.received_at IS 'Gateway clock';
COMMENT ON COLUMN positions.stored_at IS 'Database clock';
COMMENT ON COLUMN positions.valid IS 'Satellites in use and coordinates on the globe';
COMMENT ON COLUMN positions.io IS 'IO values without a column: id -> number, or hexadecimal text for variable length, or an array when the id came several times';
COMMENT ON COLUMN positions.record_hash IS 'Low 32 bits of xxh3-64 over the bytes of the record';

CREATE TABLE positions_quarantine (
    LIKE positions INCLUDING DEFAULTS,
    device_time_ms bigint NOT NULL,
    reason         text NOT NULL,
    PRIMARY KEY (device_id, device_time_ms, record_hash)
);
ALTER TABLE positions_quarantine DROP COLUMN fix_time;
COMMENT ON TABLE positions_quarantine IS 'Records whose device time cannot be true: before 2007, more than a day ahead of reception, GPS week rollover';
COMMENT ON COLUMN positions_quarantine.device_time_ms IS 'Milliseconds since 1970 as sent, 64 bits read as signed';

CREATE TABLE frames (
    received_at  timestamptz NOT NULL,
    spool_id     bigint NOT NULL,
    seq          bigint NOT NULL,
    device_id    integer NOT NULL,
    record_count integer NOT NULL,
    transport    smallint NOT NULL,
    lane         smallint NOT NULL,
    gateway      text NOT NULL,
    data         bytea NOT NULL,
    PRIMARY KEY (spool_id, seq, received_at)
);
COMMENT ON TABLE frames IS 'The data field of every envelope as received: codec id to second count';

CREATE TABLE messages (
    device_id     integer NOT NULL,
    received_at   timestamptz NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT now(),
    device_time   timestamptz,
    spool_id      bigint NOT NULL,
    seq           bigint NOT NULL,
    message_index integer NOT NULL,
    codec         smallint NOT NULL,
    kind          smallint NOT NULL,
    gateway       text NOT NULL,
    payload       bytea NOT NULL,
    text          text,
    PRIMARY KEY (spool_id, seq, message_index)
);
CREATE INDEX messages_by_device ON messages (device_id, received_at);
COMMENT ON TABLE messages IS 'Messages of Codec 12 to 15 that nobody asked for, or whose answer came late';
COMMENT ON COLUMN messages.kind IS '5 command, 6 response, 17 not executed';
COMMENT ON COLUMN messages.text IS 'The payload, when it is printable UTF-8';

CREATE TABLE device_latest (
    device_id           integer PRIMARY KEY,
    fix_time            timestamptz NOT NULL,
    record_hash         integer NOT NULL,
    received_at         timestamptz NOT NULL,
    latitude            double precision NOT NULL,
    longitude           double precision NOT NULL,
    altitude_m          smallint NOT NULL,
    heading_deg         integer NOT NULL,
    speed_kmh           integer NOT NULL,
    satellites          smallint NOT NULL,
    ignition            boolean,
    movement            boolean,
    odometer_m          bigint,
    external_voltage_mv integer
) WITH (fillfactor = 70);
COMMENT ON TABLE device_latest IS 'Newest valid position of every device';

CREATE TABLE dead_letters (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway        text NOT NULL DEFAULT '',
    spool_id       bigint NOT NULL DEFAULT 0,
    seq            bigint NOT NULL DEFAULT 0,
    record_index   integer NOT NULL DEFAULT -1,
    entry_id       text NOT NULL DEFAULT '',
    device_id      integer,
    received_at    timestamptz,
    error_class    text NOT NULL,
    reason         text NOT NULL,
    byte_offset    integer,
    sqlstate       text,
    records        bigint NOT NULL,
    delivery_count integer NOT NULL DEFAULT 1,
    first_failed   timestamptz NOT NULL DEFAULT now(),
    last_failed    timestamptz NOT NULL DEFAULT now(),
    redriven_at    timestamptz,
    bytes          bytea NOT NULL,
    UNIQUE (gateway, spool_id, seq, record_index, entry_id)
);
COMMENT ON TABLE dead_letters IS 'What nobody could read or store, with its bytes and the reason';
COMMENT ON COLUMN dead_letters.record_index IS 'Record within the frame, from 0; -1 for the whole envelope or entry';
COMMENT ON COLUMN dead_letters.entry_id IS 'Stream item, when it did not even say whose place it took';
COMMENT ON COLUMN dead_letters.byte_offset IS 'First byte that does not fit, counted in bytes from 0';

CREATE TABLE spools (
    spool_id   bigint PRIMARY KEY,
    gateway    text NOT NULL,
    low        bigint NOT NULL DEFAULT 1,
    first_seen timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE spools IS 'Every opening of every spool, and whose it is';
COMMENT ON COLUMN spools.low IS 'Nothing below this position will ever be sent again';

CREATE TABLE settled (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway     text NOT NULL,
    spool_id    bigint NOT NULL,
    first_seq   bigint NOT NULL,
    last_seq    bigint NOT NULL,
    settled_at  timestamptz NOT NULL DEFAULT now(),
    received    bigint NOT NULL,
    stored      bigint NOT NULL,
    quarantined bigint NOT NULL,
    duplicate   bigint NOT NULL,
    dead        bigint NOT NULL,
    dropped     bigint NOT NULL,
    CHECK (first_seq BETWEEN 1 AND last_seq),
    CHECK (received = stored + quarantined + duplicate + dead + dropped),
    -- Two processors that got the same envelopes cannot both settle (and count) them. Ranges of one
    -- number stand in for equality, which GiST has for numbers only through another extension.
    CONSTRAINT settled_once EXCLUDE USING gist (
        int8range(spool_id, spool_id, '[]') WITH &&,
        int8range(first_seq, last_seq, '[]') WITH &&
    )
);
COMMENT ON TABLE settled IS 'Positions of spools that are in the database, written in the transaction that put them there; counts are AVL records';

CREATE VIEW ledger AS
SELECT gateway, spool_id, date_trunc('hour', settled_at) AS hour,
       sum(received)::bigint    AS received,
       sum(stored)::bigint      AS stored,
       sum(quarantined)::bigint AS quarantined,
       sum(duplicate)::bigint   AS duplicate,
       sum(dead)::bigint        AS dead,
       sum(dropped)::bigint     AS dropped
FROM settled
GROUP BY 1, 2, 3;
COMMENT ON VIEW ledger IS 'received = stored + quarantined + duplicate + dead + dropped, in AVL records';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       AND coalesce(current_setting('milepost.timescale', true), '') <> 'off'
    THEN
        PERFORM create_hypertable('positions', by_range('fix_time', INTERVAL '1 day'),
                                  create_default_indexes => false);
        PERFORM create_hypertable('frames', by_range('received_at', INTERVAL '1 day'),
                                  create_default_indexes => false);
    ELSE
        CREATE INDEX positions_by_time ON positions USING brin (fix_time);
        CREATE INDEX frames_by_time ON frames USING brin (received_at);
    END IF;
END
$$;
