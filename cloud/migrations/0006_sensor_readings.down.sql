-- The way back to trackers alone. What sensors said goes along; their streams still have what was not
-- removed there.
-- loses: sensor_readings

DROP TABLE sensor_readings;
