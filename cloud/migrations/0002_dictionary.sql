-- What the values mean: dictionary, families, and the views and functions people query.
--
-- Values are stored as sent; names, signs, scales and units are applied here, when somebody reads.
-- The rows of io_dictionary come with the program and are loaded by `cloud migrate up`.

CREATE TABLE io_dictionary (
    family      text NOT NULL,
    io_id       integer NOT NULL CHECK (io_id BETWEEN 1 AND 65535),
    name        text NOT NULL,
    size_bytes  smallint,
    kind        text NOT NULL CHECK (kind IN ('bool', 'unsigned', 'signed', 'hex', 'ascii', 'flags')),
    minimum     numeric,
    maximum     numeric,
    multiplier  numeric NOT NULL CHECK (multiplier > 0),
    unit        text,
    value_texts jsonb NOT NULL DEFAULT '{}',
    description text NOT NULL,
    PRIMARY KEY (family, io_id)
);
COMMENT ON TABLE io_dictionary IS 'Comes with the program and is replaced by newer ones; put what you know better into io_dictionary_overrides';
COMMENT ON COLUMN io_dictionary.family IS '* is the meaning for every family without a row of its own';
COMMENT ON COLUMN io_dictionary.size_bytes IS 'On the wire; null for variable length';
COMMENT ON COLUMN io_dictionary.minimum IS 'Least raw value';
COMMENT ON COLUMN io_dictionary.value_texts IS 'Raw value -> name';

CREATE TABLE io_dictionary_version (
    content_hash text PRIMARY KEY,
    rows         integer NOT NULL,
    loaded_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE io_dictionary_version IS 'One row: which dictionary is loaded';

CREATE TABLE io_dictionary_overrides (
    family      text NOT NULL DEFAULT '*',
    io_id       integer NOT NULL CHECK (io_id BETWEEN 1 AND 65535),
    name        text,
    size_bytes  smallint CHECK (size_bytes IN (1, 2, 4, 8)),
    kind        text CHECK (kind IN ('bool', 'unsigned', 'signed', 'hex', 'ascii', 'flags')),
    minimum     numeric,
    maximum     numeric,
    multiplier  numeric CHECK (multiplier > 0),
    unit        text,
    value_texts jsonb CHECK (jsonb_typeof(value_texts) = 'object'),
    description text,
    PRIMARY KEY (family, io_id)
);
COMMENT ON TABLE io_dictionary_overrides IS 'Yours: every column that is not null replaces the one of io_dictionary, at once and for all history';
COMMENT ON COLUMN io_dictionary_overrides.family IS '* changes the common meaning; a family with a row of its own in io_dictionary keeps that until it is overridden, too';

ALTER TABLE devices
    ADD COLUMN family            text,
    ADD COLUMN family_guess      text,
    ADD COLUMN family_confidence real CHECK (family_confidence BETWEEN 0 AND 1),
    ADD COLUMN family_guessed_at timestamptz;
COMMENT ON COLUMN devices.family IS 'Yours to set; nothing else writes it, and it wins over family_guess';
COMMENT ON COLUMN devices.family_guess IS 'From the ids it sends; null while several families fit';

-- The dictionary as it is used: overrides applied, one row per family and id. A table and not a view
-- because every query that names a value looks here.
CREATE TABLE io_meanings (
    family      text NOT NULL,
    io_id       integer NOT NULL,
    name        text NOT NULL,
    size_bytes  smallint,
    kind        text NOT NULL,
    minimum     numeric,
    maximum     numeric,
    multiplier  numeric NOT NULL,
    unit        text,
    value_texts jsonb NOT NULL,
    description text NOT NULL,
    common      boolean NOT NULL,
    PRIMARY KEY (family, io_id)
);
CREATE INDEX io_meanings_by_name ON io_meanings (family, name);
COMMENT ON COLUMN io_meanings.common IS 'The common meaning, because the family has none of its own';
COMMENT ON TABLE io_meanings IS 'io_dictionary with io_dictionary_overrides applied, for every family; made by triggers, do not edit';

CREATE FUNCTION io_meanings_refresh() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('milepost.io_meanings'));
    DELETE FROM io_meanings;
    INSERT INTO io_meanings
    SELECT f.family, i.io_id,
           coalesce(mine.name, every.name, base.name, 'io_' || i.io_id),
           coalesce(mine.size_bytes, every.size_bytes, base.size_bytes),
           coalesce(mine.kind, every.kind, base.kind, 'unsigned'),
           coalesce(mine.minimum, every.minimum, base.minimum),
           coalesce(mine.maximum, every.maximum, base.maximum),
           coalesce(mine.multiplier, every.multiplier, base.multiplier, 1),
           nullif(coalesce(mine.unit, every.unit, base.unit), ''),
           coalesce(mine.value_texts, every.value_texts, base.value_texts, '{}'),
           coalesce(mine.description, every.description, base.description, ''),
           coalesce(base.family, '*') = '*' AND mine.family IS NULL
    FROM (SELECT family FROM io_dictionary UNION SELECT family FROM io_dictionary_overrides
          UNION SELECT '*') AS f
    CROSS JOIN (SELECT io_id FROM io_dictionary UNION SELECT io_id FROM io_dictionary_overrides) AS i
    LEFT JOIN LATERAL (
        SELECT * FROM io_dictionary b
        WHERE b.io_id = i.io_id AND b.family IN (f.family, '*')
        ORDER BY b.family = '*' LIMIT 1) AS base ON true
    LEFT JOIN io_dictionary_overrides mine ON mine.family = f.family AND mine.io_id = i.io_id
    LEFT JOIN io_dictionary_overrides every
        ON every.family = '*' AND every.io_id = i.io_id AND coalesce(base.family, '*') = '*';
END
$$;
COMMENT ON FUNCTION io_meanings_refresh() IS 'Makes io_meanings anew; done by itself after every change of io_dictionary_overrides';

CREATE FUNCTION io_dictionary_overridden() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM io_meanings_refresh();
    RETURN NULL;
END
$$;
CREATE TRIGGER io_dictionary_overridden
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON io_dictionary_overrides
    FOR EACH STATEMENT EXECUTE FUNCTION io_dictionary_overridden();

CREATE FUNCTION device_family(device integer) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce((
        SELECT coalesce(d.family, d.family_guess) FROM devices d
        WHERE d.id = device
          AND EXISTS (SELECT FROM io_meanings m WHERE m.family = coalesce(d.family, d.family_guess))),
        '*')
$$;
COMMENT ON FUNCTION device_family(integer) IS 'By whose meanings its values are read: set by a person, else guessed, else *';

CREATE FUNCTION io_raw(p positions) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p.io || jsonb_strip_nulls(jsonb_build_object(
        '239', p.ignition::integer, '240', p.movement::integer, '16', p.odometer_m,
        '66', p.external_voltage_mv, '67', p.battery_voltage_mv, '21', p.gsm_signal))
$$;
COMMENT ON FUNCTION io_raw(positions) IS 'Every IO element of a record as sent: id -> number, hexadecimal text, or an array when it came several times';

-- Which number was meant by an unsigned one of a signed element. The width on the wire is not kept:
-- families send the same id in two widths. A number above what the element can be is negative in the
-- one width of which it has the highest bit.
CREATE FUNCTION io_signed(raw numeric, size_bytes smallint, maximum numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN raw <= least(maximum, 2::numeric ^ (8 * coalesce(size_bytes, 8) - 1) - 1) THEN raw
        WHEN size_bytes = 1 AND raw BETWEEN 128 AND 255 THEN raw - 256
        WHEN raw BETWEEN 32768 AND 65535 THEN raw - 65536
        WHEN raw BETWEEN 2147483648 AND 4294967295 THEN raw - 4294967296
        WHEN raw BETWEEN 9223372036854775808 AND 18446744073709551615 THEN raw - 18446744073709551616
        ELSE raw END
$$;

CREATE FUNCTION io_hex(raw jsonb, size_bytes smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(raw)
        WHEN 'string' THEN raw #>> '{}'
        WHEN 'number' THEN (
            SELECT CASE WHEN length(digits) < 2 * coalesce(size_bytes, 1)
                        THEN lpad(digits, 2 * coalesce(size_bytes, 1), '0') ELSE digits END
            FROM to_hex((CASE WHEN (raw #>> '{}')::numeric > 9223372036854775807
                              THEN (raw #>> '{}')::numeric - 18446744073709551616
                              ELSE (raw #>> '{}')::numeric END)::bigint) AS digits)
        END
$$;

-- Text that is no plain text stays hexadecimal: a value somebody garbled must not end a query.
CREATE FUNCTION io_ascii(hex text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN bare ~ '^([2-6][0-9a-f]|7[0-9a-e])*$'
                THEN convert_from(decode(bare, 'hex'), 'UTF8') ELSE hex END
    FROM regexp_replace(hex, '^(00)+|((?:00)+)$', '', 'g') AS bare
$$;

CREATE FUNCTION io_read(raw jsonb, m io_meanings, OUT value numeric, OUT text text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN m.kind IN ('hex', 'ascii') THEN NULL
                -- A measured quantity has no names: this one says why there is none.
                WHEN label IS NOT NULL AND m.unit IS NOT NULL THEN NULL
                ELSE number * coalesce(m.multiplier, 1) END,
           CASE WHEN label IS NOT NULL THEN label
                WHEN m.kind = 'ascii' THEN io_ascii(io_hex(raw, m.size_bytes))
                WHEN m.kind IN ('hex', 'flags') OR jsonb_typeof(raw) = 'string'
                THEN io_hex(raw, m.size_bytes) END
    FROM (SELECT CASE jsonb_typeof(raw) WHEN 'number' THEN (raw #>> '{}')::numeric END AS sent) AS a
    CROSS JOIN LATERAL (
        SELECT CASE WHEN m.kind = 'signed' AND NOT coalesce(m.value_texts ? sent::text, false)
                    THEN io_signed(sent, m.size_bytes, m.maximum) ELSE sent END AS number) AS b
    CROSS JOIN LATERAL (SELECT m.value_texts ->> number::text AS label) AS c
$$;
COMMENT ON FUNCTION io_read(jsonb, io_meanings) IS 'One raw value by one meaning: the scaled number, and the text if it is one or has one';

CREATE FUNCTION io_named(p positions, wanted text, OUT value numeric, OUT text text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT r.value, r.text
    FROM io_meanings m
    CROSS JOIN LATERAL (SELECT io_raw(p) -> m.io_id::text AS raw) AS e
    CROSS JOIN LATERAL io_read(e.raw, m) AS r
    WHERE m.family = device_family(p.device_id) AND m.name = wanted AND e.raw IS NOT NULL
    ORDER BY m.common, m.io_id LIMIT 1
$$;

CREATE FUNCTION io(p positions, wanted text) RETURNS numeric
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT value FROM io_named(p, wanted) $$;
COMMENT ON FUNCTION io(positions, text) IS 'A value of a record by its name, signed and scaled; null when it was not sent, is text, or came several times';

CREATE FUNCTION io_text(p positions, wanted text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT coalesce(text, value::text) FROM io_named(p, wanted) $$;
COMMENT ON FUNCTION io_text(positions, text) IS 'A value of a record by its name, as text: the name of the value, plain text, hexadecimal, or the number';

CREATE FUNCTION measurements(p positions)
RETURNS TABLE (io_id integer, name text, value numeric, unit text, text text, raw jsonb)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT e.key::integer, coalesce(m.name, 'io_' || e.key), r.value, m.unit, r.text, one.raw
    FROM jsonb_each(io_raw(p)) AS e
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(e.value) WHEN 'array' THEN e.value ELSE jsonb_build_array(e.value) END) AS one(raw)
    LEFT JOIN io_meanings m ON m.family = device_family(p.device_id) AND m.io_id = e.key::integer
    CROSS JOIN LATERAL io_read(one.raw, m) AS r
$$;
COMMENT ON FUNCTION measurements(positions) IS 'Every IO element of a record with its name, value and unit';

CREATE FUNCTION measurements(device integer, since timestamptz, until timestamptz, names text[] DEFAULT NULL)
RETURNS TABLE ("time" timestamptz, io_id integer, name text, value numeric, unit text, text text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT p.fix_time, x.io_id, x.name, x.value, x.unit, x.text
    FROM positions p CROSS JOIN LATERAL measurements(p) AS x
    WHERE p.device_id = device AND p.fix_time >= since AND p.fix_time < until
      AND (names IS NULL OR x.name = ANY (names))
$$;
COMMENT ON FUNCTION measurements(integer, timestamptz, timestamptz, text[]) IS 'What a device measured from since to before until, all of it or what has these names';

CREATE VIEW telemetry AS
SELECT p.fix_time AS "time", p.device_id, d.imei, coalesce(d.name, d.ident, d.imei::text) AS device,
       p.latitude, p.longitude, p.altitude_m, p.heading_deg, p.speed_kmh, p.satellites, p.valid,
       p.priority, p.event_io_id,
       CASE WHEN p.event_io_id <> 0 THEN coalesce(
           (SELECT m.name FROM io_meanings m
            WHERE m.family = device_family(p.device_id) AND m.io_id = p.event_io_id),
           'io_' || p.event_io_id) END AS event,
       p.ignition, p.movement, p.gsm_signal,
       p.external_voltage_mv * 0.001 AS external_voltage_v,
       p.battery_voltage_mv * 0.001 AS battery_voltage_v,
       -- In some families element 16 is another counter, and the odometer is another element.
       CASE WHEN coalesce(d.family, d.family_guess) IS NULL THEN p.odometer_m
            ELSE io(p, 'total_odometer') END AS odometer_m,
       p.received_at, p.stored_at, p.record_hash, p.io
FROM positions p JOIN devices d ON d.id = p.device_id;
COMMENT ON VIEW telemetry IS 'Positions with the names of devices and events, units in the names of the columns';
