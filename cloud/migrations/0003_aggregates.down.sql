-- The way back to records alone. Ordinary views lose nothing. Continuous aggregates are rows: they may
-- reach back further than the records that retention has left, and those hours are then gone.
-- loses: positions_hourly device_daily

DO $$
DECLARE
    name  text;
    ahead boolean;
BEGIN
    FOREACH name IN ARRAY ARRAY['device_daily', 'positions_hourly'] LOOP
        ahead := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
        IF ahead THEN
            EXECUTE $q$SELECT EXISTS (
                SELECT FROM timescaledb_information.continuous_aggregates
                WHERE view_schema = current_schema() AND view_name = $1)$q$
            INTO ahead USING name;
        END IF;
        EXECUTE format('DROP %s %I', CASE WHEN ahead THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, name);
    END LOOP;
END
$$;
