-- Other kinds of payload than Teltonika's: positions from an API, sentences of NMEA.
--
-- Nothing is rewritten. A kind that is null is Teltonika's, so that frames of before say so without
-- being touched, also where they are compressed. What only trackers of Teltonika always say may be
-- unknown now.

ALTER TABLE positions
    ALTER COLUMN altitude_m DROP NOT NULL,
    ALTER COLUMN heading_deg DROP NOT NULL,
    ALTER COLUMN speed_kmh DROP NOT NULL,
    ALTER COLUMN satellites DROP NOT NULL,
    ALTER COLUMN priority DROP NOT NULL;
ALTER TABLE positions_quarantine
    ALTER COLUMN altitude_m DROP NOT NULL,
    ALTER COLUMN heading_deg DROP NOT NULL,
    ALTER COLUMN speed_kmh DROP NOT NULL,
    ALTER COLUMN satellites DROP NOT NULL,
    ALTER COLUMN priority DROP NOT NULL;
ALTER TABLE device_latest
    ALTER COLUMN altitude_m DROP NOT NULL,
    ALTER COLUMN heading_deg DROP NOT NULL,
    ALTER COLUMN speed_kmh DROP NOT NULL,
    ALTER COLUMN satellites DROP NOT NULL;

ALTER TABLE frames ADD COLUMN kind smallint;
COMMENT ON COLUMN frames.kind IS 'What data holds, which decides who reads it: null Teltonika, 1 positions, 2 NMEA sentences';
ALTER TABLE dead_letters ADD COLUMN kind smallint;
COMMENT ON COLUMN dead_letters.kind IS 'As in frames';

-- A name is a vendor's; an IMEI is one device, whoever carries it.
ALTER TABLE devices
    DROP CONSTRAINT devices_ident_key,
    ADD CONSTRAINT devices_ident_vendor_key UNIQUE (ident, vendor);
COMMENT ON COLUMN devices.vendor IS 'Whose protocol it spoke first: teltonika, http, nmea';

-- Values that have a name of their own instead of an id: attributes of positions.
CREATE OR REPLACE FUNCTION io_named(p positions, wanted text, OUT value numeric, OUT text text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    (SELECT r.value, r.text
     FROM io_meanings m
     CROSS JOIN LATERAL (SELECT io_raw(p) -> m.io_id::text AS raw) AS e
     CROSS JOIN LATERAL io_read(e.raw, m) AS r
     WHERE m.family = device_family(p.device_id) AND m.name = wanted AND e.raw IS NOT NULL
     ORDER BY m.common, m.io_id LIMIT 1)
    UNION ALL
    SELECT CASE jsonb_typeof(p.io -> wanted) WHEN 'number' THEN (p.io ->> wanted)::numeric END,
           CASE jsonb_typeof(p.io -> wanted) WHEN 'number' THEN NULL ELSE p.io ->> wanted END
    WHERE p.io ? wanted AND wanted !~ '^[0-9]'
    LIMIT 1
$$;

CREATE OR REPLACE FUNCTION measurements(p positions)
RETURNS TABLE (io_id integer, name text, value numeric, unit text, text text, raw jsonb)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT k.id, CASE WHEN k.id IS NULL THEN e.key ELSE coalesce(m.name, 'io_' || e.key) END,
           r.value, m.unit,
           CASE WHEN jsonb_typeof(one.raw) IN ('boolean', 'object', 'array') THEN one.raw #>> '{}'
                ELSE r.text END,
           one.raw
    FROM jsonb_each(io_raw(p)) AS e
    CROSS JOIN LATERAL (SELECT CASE WHEN e.key ~ '^[0-9]{1,5}$' THEN e.key::integer END AS id) AS k
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(e.value) WHEN 'array' THEN e.value ELSE jsonb_build_array(e.value) END) AS one(raw)
    LEFT JOIN io_meanings m ON m.family = device_family(p.device_id) AND m.io_id = k.id
    CROSS JOIN LATERAL io_read(one.raw, m) AS r
$$;
COMMENT ON FUNCTION measurements(positions) IS 'Every IO element of a record with its name, value and unit, and every attribute of a position';
