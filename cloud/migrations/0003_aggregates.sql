-- Hours and days of every device: continuous aggregates where positions is a hypertable and the
-- licence allows them, ordinary views with the same columns elsewhere. Buckets are in UTC.
--
-- No window functions and no distances from coordinates: a continuous aggregate has neither. The
-- distance of a bucket is its last odometer less its first.

DO $$
DECLARE
    names  text[] := ARRAY['positions_hourly', 'device_daily'];
    units  text[] := ARRAY['hour', 'day'];
    ahead  boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
                      AND coalesce(current_setting('timescaledb.license', true), '') = 'timescale';
    kind   text;
    bucket text;
    first  text;
    last   text;
BEGIN
    IF ahead THEN
        EXECUTE $q$SELECT EXISTS (
            SELECT FROM timescaledb_information.hypertables
            WHERE hypertable_name = 'positions' AND hypertable_schema = current_schema())$q$
        INTO ahead;
    END IF;
    FOR i IN 1 .. 2 LOOP
        IF ahead THEN
            kind := format('MATERIALIZED VIEW %I WITH (timescaledb.continuous, timescaledb.materialized_only = false)', names[i]);
            bucket := format('time_bucket(interval ''1 %s'', fix_time)', units[i]);
            first := 'first(odometer_m, fix_time) FILTER (WHERE odometer_m IS NOT NULL)';
            last := 'last(odometer_m, fix_time) FILTER (WHERE odometer_m IS NOT NULL)';
        ELSE
            kind := format('VIEW %I', names[i]);
            bucket := format('date_bin(interval ''1 %s'', fix_time, timestamptz ''2000-01-01 00:00+00'')', units[i]);
            first := '(array_agg(odometer_m ORDER BY fix_time) FILTER (WHERE odometer_m IS NOT NULL))[1]';
            last := '(array_agg(odometer_m ORDER BY fix_time DESC) FILTER (WHERE odometer_m IS NOT NULL))[1]';
        END IF;
        EXECUTE format($q$
            CREATE %s AS
            SELECT device_id, %s AS %I,
                   count(*) AS records,
                   count(*) FILTER (WHERE valid) AS records_valid,
                   min(fix_time) AS first_fix,
                   max(fix_time) AS last_fix,
                   max(speed_kmh) FILTER (WHERE valid) AS speed_max_kmh,
                   %s AS odometer_first_m,
                   %s AS odometer_last_m,
                   count(ignition) AS ignition_known,
                   count(*) FILTER (WHERE ignition) AS ignition_on,
                   count(*) FILTER (WHERE movement) AS moving
            FROM positions GROUP BY 1, 2 %s$q$,
            kind, bucket, units[i], first, last, CASE WHEN ahead THEN 'WITH NO DATA' ELSE '' END);
    END LOOP;
END
$$;
