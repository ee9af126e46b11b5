//! Codes of sensor streams.

codes::pages! {
    NOTHING = "W-SNS-101", 0, "no stream matches sensors.pattern",
        "Nothing under this pattern is a stream with readings of a sensor. That is right while no sensor has sent a thing. Otherwise compare the pattern with what `redis-cli --scan --pattern` finds, and look at the number of the database in redis.url: whoever writes the readings may use another. A stream is taken in within stream.look_every of its first entry.";
    OTHERS = "W-SNS-102", 0, "sensors.pattern also matches streams of another purpose",
        "Telemetry, commands and dead letters are never read as readings, whatever the pattern: they are left out, and nothing is lost. But whoever reads the pattern will believe otherwise, and other programs with the same pattern may read them. Choose one that matches sensors alone, such as mqtt_stream:*.";
    NAME = "W-SNS-103", 0, "a stream matches sensors.pattern and names no sensor",
        "The name must be <prefix>:<device>:<sensor type>, each part of 1 to 100 letters; the prefix is what the pattern begins with up to a colon, the sensor type stands behind the last one. A stream of another form is not read, its entries stay. The founding mqtt_stream:failed is one: copies of dead letters.";
    KIND = "W-SNS-104", 0, "a key matches sensors.pattern and is no stream",
        "Under a name that matches lies a list, a hash or a text. It is left alone. If a sensor should have a stream there, nobody can append to it: rename or remove the key.";
    NO_GROUP = "W-SNS-105", 0, "sensor streams have no consumer group",
        "Nobody has read them as our group yet. `cloud run` with the same sensors.pattern creates it at 0 within stream.look_every, so that everything there is gets read. If it was there before, Redis has lost data.";
}
