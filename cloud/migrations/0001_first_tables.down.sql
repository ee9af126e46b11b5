-- The way back to an empty database. Takes every record along.
-- One by one: a hypertable goes alone.
-- loses: positions positions_quarantine frames messages devices device_latest dead_letters spools settled

DROP VIEW ledger;
DROP TABLE settled;
DROP TABLE spools;
DROP TABLE dead_letters;
DROP TABLE device_latest;
DROP TABLE messages;
DROP TABLE frames;
DROP TABLE positions_quarantine;
DROP TABLE positions;
DROP TABLE devices;
