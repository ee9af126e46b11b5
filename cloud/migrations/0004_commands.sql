-- Commands to trackers, and everything that was ever said about each of them.
--
-- Why the rules stand here and not only in the program: rows are inserted by anybody (psql, a
-- Directus Flow), and two processors may lag behind one another. Whoever writes, a status moves
-- forward and a tracker has at most one command on its way.

CREATE FUNCTION command_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    -- UUID version 7: 48 bits of milliseconds, then the random rest of a version 4.
    SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
            || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;

CREATE FUNCTION command_rank(status text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT array_position(ARRAY['queued', 'routed', 'sent', 'unknown', 'timeout', 'expired',
                                'nacked', 'acked'], status)
$$;
COMMENT ON FUNCTION command_rank(text) IS 'How far a status is; NULL for a word that is none. From unknown (4) on it is final';

CREATE TABLE commands (
    id           uuid PRIMARY KEY DEFAULT command_id(),
    seq          bigint GENERATED ALWAYS AS IDENTITY,
    imei         bigint NOT NULL,
    codec        smallint NOT NULL DEFAULT 12,
    payload      text NOT NULL,
    idempotent   boolean NOT NULL DEFAULT false,
    status       text NOT NULL DEFAULT 'queued',
    reason       text,
    reply        text,
    requested_by text NOT NULL DEFAULT session_user,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    gateway      text,
    attempt      integer NOT NULL DEFAULT 0,
    resends      smallint NOT NULL DEFAULT 0,
    entry_id     text,
    retry_at     timestamptz,
    routed_at    timestamptz,
    sent_at      timestamptz,
    finished_at  timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (command_rank(status) IS NOT NULL),
    CHECK (status NOT IN ('routed', 'sent') OR gateway IS NOT NULL)
);
COMMENT ON TABLE commands IS 'What trackers are to be told, and what became of it. INSERT INTO commands (imei, payload) VALUES (…) is enough';
COMMENT ON COLUMN commands.seq IS 'Commands of one tracker go out in this order';
COMMENT ON COLUMN commands.codec IS '12, or 14 where the tracker is to compare its IMEI';
COMMENT ON COLUMN commands.idempotent IS 'May be said twice without harm (getinfo, setparam): repeated up to three times when nobody knows whether it arrived';
COMMENT ON COLUMN commands.status IS 'queued, routed (given to a gateway), sent (in the tracker''s socket), unknown, timeout, expired, nacked, acked';
COMMENT ON COLUMN commands.attempt IS 'How often it was given to a gateway';
COMMENT ON COLUMN commands.resends IS 'How often it was given although it may have been said before; only if idempotent';
COMMENT ON COLUMN commands.entry_id IS 'Its entry in commands:outbound:<gateway>, once Redis has confirmed it';
COMMENT ON COLUMN commands.retry_at IS 'Not to be given to a gateway before';

-- A reply names no command, so a tracker has one on its way. Two processors cannot both give one.
CREATE UNIQUE INDEX commands_one_on_its_way ON commands (imei) WHERE status IN ('routed', 'sent');
CREATE INDEX commands_alive ON commands (imei, seq) WHERE status IN ('queued', 'routed', 'sent');
CREATE INDEX commands_by_device ON commands (imei, seq DESC);

CREATE TABLE command_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command_id uuid NOT NULL REFERENCES commands ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    status     text NOT NULL,
    attempt    integer NOT NULL,
    gateway    text,
    reason     text,
    reply      text,
    applied    boolean NOT NULL DEFAULT true
);
CREATE INDEX command_events_by_command ON command_events (command_id, id);
-- A response that changed nothing is noted once, however often it is delivered.
CREATE UNIQUE INDEX command_events_noted_once ON command_events
    (command_id, attempt, status, coalesce(gateway, ''), coalesce(reason, '')) WHERE NOT applied;
COMMENT ON TABLE command_events IS 'History of every command; only ever added to';
COMMENT ON COLUMN command_events.applied IS 'false: a gateway said so when the command was already further';

CREATE FUNCTION commands_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Programs that send every field send NULL for what was left empty.
        NEW.id := coalesce(NEW.id, command_id());
        NEW.codec := coalesce(NEW.codec, 12);
        NEW.idempotent := coalesce(NEW.idempotent, false);
        NEW.status := coalesce(NEW.status, 'queued');
        NEW.requested_by := coalesce(NEW.requested_by, session_user);
        NEW.created_at := coalesce(NEW.created_at, now());
        NEW.expires_at := coalesce(NEW.expires_at, now() + interval '24 hours');
        NEW.attempt := 0;
        NEW.resends := 0;
        NEW.updated_at := now();
        IF NEW.status <> 'queued' THEN
            RAISE EXCEPTION 'a command begins as queued, not as %', NEW.status
                USING ERRCODE = 'check_violation', HINT = 'Leave status out.';
        END IF;
    END IF;
    IF NEW.status = 'queued' THEN
        IF NEW.imei IS NULL OR NEW.imei NOT BETWEEN 10000000000000 AND 999999999999999 THEN
            RAISE EXCEPTION 'imei % is not an IMEI', coalesce(NEW.imei::text, 'NULL')
                USING ERRCODE = 'check_violation',
                      HINT = 'Give the 15 digits that stand on the tracker.';
        END IF;
        IF NEW.codec NOT IN (12, 14) THEN
            RAISE EXCEPTION 'codec % cannot carry a command', NEW.codec
                USING ERRCODE = 'check_violation',
                      HINT = 'Give 12, or 14 to let the tracker compare its IMEI.';
        END IF;
        IF NEW.payload IS NULL OR btrim(NEW.payload) = '' THEN
            RAISE EXCEPTION 'the payload is empty'
                USING ERRCODE = 'check_violation',
                      HINT = 'Give the text of the command, for example getinfo.';
        END IF;
        IF octet_length(NEW.payload) > 4096 THEN
            RAISE EXCEPTION 'the payload has % bytes', octet_length(NEW.payload)
                USING ERRCODE = 'check_violation', HINT = 'A tracker takes 4096 at most.';
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.expires_at <= now() THEN
            RAISE EXCEPTION 'expires_at % has passed', NEW.expires_at
                USING ERRCODE = 'check_violation',
                      HINT = 'Leave it out for 24 hours from now.';
        END IF;
        RETURN NEW;
    END IF;

    IF (NEW.id, NEW.seq, NEW.created_at) IS DISTINCT FROM (OLD.id, OLD.seq, OLD.created_at)
       OR (OLD.attempt > 0 AND (NEW.imei, NEW.codec, NEW.payload, NEW.idempotent)
           IS DISTINCT FROM (OLD.imei, OLD.codec, OLD.payload, OLD.idempotent))
    THEN
        RAISE EXCEPTION 'command % cannot be changed any more', OLD.id
            USING ERRCODE = 'check_violation', HINT = 'Insert a new one.';
    END IF;
    IF NEW.status = 'routed' AND OLD.status = 'queued' THEN
        IF NEW.attempt <> OLD.attempt + 1 THEN
            RAISE EXCEPTION 'command % is routed as attempt % after %', OLD.id, NEW.attempt, OLD.attempt
                USING ERRCODE = 'check_violation', HINT = 'Every routing counts.';
        END IF;
    ELSIF NEW.attempt <> OLD.attempt THEN
        RAISE EXCEPTION 'attempt % of command % is counted where it is routed', NEW.attempt, OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.status = 'queued' AND OLD.status <> 'queued' THEN
        -- Back to the queue: nobody was told (routed), or it may be told twice.
        IF NOT ((OLD.status = 'routed' AND NEW.resends = OLD.resends)
                OR (OLD.status IN ('routed', 'sent') AND OLD.idempotent
                    AND NEW.resends = OLD.resends + 1 AND NEW.resends <= 3))
        THEN
            RAISE EXCEPTION 'command % is % and cannot be queued again', OLD.id, OLD.status
                USING ERRCODE = 'check_violation',
                      HINT = 'Insert a new one if the tracker may be told again.';
        END IF;
        NEW.gateway := NULL;
        NEW.entry_id := NULL;
    ELSIF command_rank(NEW.status) < command_rank(OLD.status) THEN
        RAISE EXCEPTION 'command % is % and cannot become %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', HINT = 'A status only moves forward.';
    END IF;
    IF NEW.status <> OLD.status THEN
        IF NEW.status = 'routed' THEN
            NEW.routed_at := clock_timestamp();
            NEW.sent_at := NULL;
        ELSIF NEW.status = 'sent' THEN
            NEW.sent_at := clock_timestamp();
        ELSIF NEW.status <> 'queued' THEN
            NEW.finished_at := clock_timestamp();
        END IF;
    END IF;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE TRIGGER commands_guard BEFORE INSERT OR UPDATE ON commands
    FOR EACH ROW EXECUTE FUNCTION commands_guard();

CREATE FUNCTION commands_told() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_id uuid;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO command_events (command_id, status, attempt, reason)
        VALUES (NEW.id, NEW.status, NEW.attempt, NEW.reason);
        -- A wake-up and no more: a lost connection loses it silently.
        PERFORM pg_notify('commands', NEW.id::text);
        RETURN NULL;
    END IF;
    IF NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt THEN
        INSERT INTO command_events (command_id, status, attempt, gateway, reason, reply)
        VALUES (NEW.id, NEW.status, NEW.attempt, coalesce(NEW.gateway, OLD.gateway), NEW.reason,
                NEW.reply);
        IF NEW.status NOT IN ('routed', 'sent') THEN
            SELECT c.id INTO next_id FROM commands c
            WHERE c.imei = NEW.imei AND c.status = 'queued' ORDER BY c.seq LIMIT 1;
            IF next_id IS NOT NULL THEN
                PERFORM pg_notify('commands', next_id::text);
            END IF;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER commands_told AFTER INSERT OR UPDATE ON commands
    FOR EACH ROW EXECUTE FUNCTION commands_told();

CREATE FUNCTION command_events_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of command % cannot be changed', OLD.command_id
        USING ERRCODE = 'check_violation', HINT = 'It goes with its command, when that is deleted.';
END
$$;
CREATE TRIGGER command_events_only_grow BEFORE UPDATE ON command_events
    FOR EACH ROW EXECUTE FUNCTION command_events_only_grow();
