-- The way back to telemetry alone. What trackers were told, and what they said to it, goes along.
-- loses: commands command_events

DROP TABLE command_events, commands;
DROP FUNCTION commands_guard();
DROP FUNCTION commands_told();
DROP FUNCTION command_events_only_grow();
DROP FUNCTION command_rank(text);
DROP FUNCTION command_id();
