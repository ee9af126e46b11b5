-- The way back to values without names. The dictionary comes with the program and comes back with it;
-- what people wrote goes: their overrides, and which family a device is of.
-- loses: io_dictionary_overrides devices.family devices.family_guess
-- remakes: io_dictionary io_dictionary_version io_meanings

DROP VIEW telemetry;
DROP FUNCTION measurements(integer, timestamptz, timestamptz, text[]);
DROP FUNCTION measurements(positions);
DROP FUNCTION io_text(positions, text);
DROP FUNCTION io(positions, text);
DROP FUNCTION io_named(positions, text);
DROP FUNCTION io_read(jsonb, io_meanings);
DROP FUNCTION io_ascii(text);
DROP FUNCTION io_hex(jsonb, smallint);
DROP FUNCTION io_signed(numeric, smallint, numeric);
DROP FUNCTION io_raw(positions);
DROP FUNCTION device_family(integer);
DROP TABLE io_meanings;
ALTER TABLE devices
    DROP COLUMN family,
    DROP COLUMN family_guess,
    DROP COLUMN family_confidence,
    DROP COLUMN family_guessed_at;
DROP TABLE io_dictionary_overrides;
DROP FUNCTION io_dictionary_overridden();
DROP FUNCTION io_meanings_refresh();
DROP TABLE io_dictionary_version;
DROP TABLE io_dictionary;
