#!/usr/bin/env python3
"""Reads Milepost's telemetry streams beside the cloud and prints one JSON line for each frame.

    python3 read_stream.py --url redis://127.0.0.1:6379/ --follow
    python3 read_stream.py --url rediss://reports:secret@redis:6379/ --ca ca.crt --from 1790000000000

It needs `redis` and `msgpack`, and `backports.zstd` before Python 3.14:

    pip install redis msgpack backports.zstd

Nothing it does disturbs the consumer group `processor`, which is the cloud's: XRANGE and XREAD change
nothing at all, and `--group NAME` reads as a group of your own. Never read as `processor`: what you
take is not handed to the cloud any more.

An item of a stream is an *entry*: a batch of frames from one spool of one gateway. Its fields:

    v    version. 1: it holds every position from `a` to `z`. 2: it holds those that `p` names.
         A higher one is not for this program: leave it alone.
    k    what the payload holds: `teltonika`. Never guess another one.
    gw   gateway id
    sp   spool id, 16 hexadecimal digits: new at every opening of a spool, so that (sp, position)
         never means two different frames
    a    first position inside
    z    last position inside
    p    version 2 alone: exactly the positions inside, as ranges: `3-5,9-9`
    low  nothing below this position will ever be sent (again)
    gap  optional: positions that are lost for good, `first-last:records:reason,...`; the reason is
         `dropped` (the spool was full) or `corrupt` (its disk); 0 records: nobody can tell how many
    n    AVL records inside, all frames together
    c    coding of the payload: `mp` (MsgPack) or `mp+zstd` (MsgPack inside zstd)
    d    payload

The payload is an array of envelopes, each an array of seven:

    seq             position in the spool
    received_at_ms  clock of the gateway, milliseconds since 1970 UTC
    device          IMEI as a number, or the name of something that has none
    transport       0 TCP, 1 UDP, 2 TLS
    lane            1 high, 2 normal, 3 bulk
    record_count    AVL records in the frame as it says itself; 0 for messages
    bytes           the data field of the frame as the tracker sent it, from the codec id to the
                    second count; the checksum was verified and left out

Delivery is at least once: a gateway that cannot know whether an entry arrived sends its frames again,
in other entries. Keep (sp, seq) of what you have done if that matters to you.
"""

import argparse
import json
import struct
import sys

VERSIONS_READ = (1, 2)
SPOOL_POSITIONS_MAX = 512  # an entry's first and last position are closer than this
OPENED_BYTES_MAX = 1 << 20  # a payload is smaller than this when it is unpacked
PAGE = 100
BLOCK_MS = 1000

# Groups of Milepost itself.
TAKEN_GROUPS = ("processor", "gateway", "commands")

TRANSPORTS = {0: "tcp", 1: "udp", 2: "tls"}
LANES = {1: "high", 2: "normal", 3: "bulk"}

# Codecs whose records begin with time, priority and position: Codec 8, Codec 8 Extended, Codec 16.
AVL_CODECS = {0x08: "8", 0x8E: "8E", 0x10: "16"}
# Big-endian: ms since 1970 UTC, priority, longitude and latitude (1e-7 degrees), altitude (m),
# angle (degrees), satellites, speed (km/h).
RECORD_HEAD = struct.Struct(">QBiihHBH")


class Unreadable(Exception):
    """Says why an entry or a frame cannot be read."""


def decompress(data):
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        from backports import zstd
    opened = zstd.ZstdDecompressor().decompress(data, max_length=OPENED_BYTES_MAX + 1)
    if len(opened) > OPENED_BYTES_MAX:
        raise Unreadable(f"the payload unpacks to more than {OPENED_BYTES_MAX} bytes")
    return opened


def ranges(text):
    """`3-5,9-9` as the set {3, 4, 5, 9}, which an entry keeps small."""
    positions = set()
    for part in text.split(","):
        first, last = (int(number) for number in part.split("-"))
        if not first <= last < first + SPOOL_POSITIONS_MAX:
            raise Unreadable(f"impossible positions {part!r}")
        positions.update(range(first, last + 1))
    return positions


def gaps(text):
    """Losses that the gateway tells: where, how many AVL records, and why."""
    for part in filter(None, text.split(",")):
        where, records, reason = part.split(":")
        first, last = where.split("-")
        yield {"first": int(first), "last": int(last), "records": int(records), "reason": reason}


def frame_head(data):
    """Codec and count of a frame; of its first record time and position."""
    if len(data) < 2:
        raise Unreadable("a frame of less than two bytes")
    head = {"codec": AVL_CODECS.get(data[0]), "codec_id": data[0]}
    if head["codec"] is None:
        return head  # a message (Codec 12 to 15), or a codec this program does not know
    head["count"] = data[1]
    if data[1] and len(data) >= 2 + RECORD_HEAD.size:
        (time_ms, priority, lon, lat, altitude, angle, satellites, speed) = RECORD_HEAD.unpack_from(data, 2)
        head.update(
            time_ms=time_ms,
            priority=priority,
            longitude=lon / 1e7,
            latitude=lat / 1e7,
            altitude_m=altitude,
            angle_degrees=angle,
            satellites=satellites,  # 0: no fix, the position is the last one known
            speed_kmh=speed,
        )
    return head


def envelopes(fields):
    """The envelopes of an entry, as the seven things each of them is."""
    import msgpack

    version = int(fields[b"v"])
    if version not in VERSIONS_READ:
        raise Unreadable(f"an entry of version {version}: this program reads 1 and 2")
    kind = fields[b"k"].decode()
    if kind != "teltonika":
        raise Unreadable(f"a payload of kind {kind!r}")
    coding = fields[b"c"].decode()
    if coding not in ("mp", "mp+zstd"):
        raise Unreadable(f"a payload in coding {coding!r}")
    data = fields[b"d"]
    if coding == "mp+zstd":
        data = decompress(data)
    if version == 2:
        positions = ranges(fields[b"p"].decode())
    else:
        positions = ranges(f"{int(fields[b'a'])}-{int(fields[b'z'])}")
    for envelope in msgpack.unpackb(data, raw=False, unicode_errors="replace"):
        if envelope[0] not in positions:
            raise Unreadable(f"a frame at position {envelope[0]}, which the entry does not name")
        yield envelope


def lines(stream, entry_id, fields):
    """What one entry says: an object for each frame, and one for each loss."""
    about = {
        "stream": stream,
        "id": entry_id,
        "gateway": fields.get(b"gw", b"").decode(errors="replace"),
        "spool": fields.get(b"sp", b"").decode(errors="replace"),
    }
    try:
        for gap in gaps(fields.get(b"gap", b"").decode()):
            yield {**about, "gap": gap}
        for seq, received_at_ms, device, transport, lane, records, data in envelopes(fields):
            line = {
                **about,
                "seq": seq,
                "received_at_ms": received_at_ms,
                "device": f"{device:015d}" if isinstance(device, int) else device,
                "transport": TRANSPORTS.get(transport, transport),
                "lane": LANES.get(lane, "normal"),
                "records": records,
            }
            try:
                line.update(frame_head(data))
            except Unreadable as why:
                line["error"] = str(why)
            yield line
    except (Unreadable, KeyError, ValueError, TypeError) as why:
        # The cloud keeps such an entry as a dead letter, with its bytes.
        yield {**about, "error": f"{type(why).__name__}: {why}"}
    except ImportError:
        raise
    except Exception as why:  # whatever MsgPack and zstd say of spoilt bytes
        yield {**about, "error": f"{type(why).__name__}: {why}"}


def shards(client, name):
    """A stream and its shards `<name>:<number>`, as far as they are there."""
    found = [name] if client.exists(name) else []
    for key in client.scan_iter(match=f"{name}:*", count=1000, _type="stream"):
        if key.decode()[len(name) + 1 :].isdigit():
            found.append(key.decode())
    return sorted(found)


def there(client, stream, start):
    """What is in a stream, page by page. Changes nothing in Redis."""
    while page := client.xrange(stream, min=start, count=PAGE):
        for entry_id, fields in page:
            yield entry_id, fields
        start = b"(" + page[-1][0]


def read(client, streams, start):
    """Everything there is, then everything that comes. Changes nothing in Redis."""
    after = {}
    for stream in streams:
        after[stream] = "0-0" if start == "-" else start
        for entry_id, fields in there(client, stream, start):
            after[stream] = entry_id
            yield stream, entry_id, fields
    while True:
        for stream in streams:  # one at a time: in a cluster they are on different nodes
            for _, page in client.xread({stream: after[stream]}, count=PAGE, block=BLOCK_MS) or []:
                for entry_id, fields in page:
                    after[stream] = entry_id
                    yield stream, entry_id, fields


def read_as_group(client, streams, group, consumer, follow):
    """As a consumer group of one's own: what it was handed before and did not acknowledge comes first.

    Each entry is acknowledged when the caller asks for the next one.
    """
    import redis

    for stream in streams:
        try:
            client.xgroup_create(stream, group, id="0")
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
    own = dict.fromkeys(streams, "0")  # then ">": what nobody of the group was handed
    while True:
        found = False
        for stream in streams:
            block = BLOCK_MS if follow and own[stream] == ">" else None
            pages = client.xreadgroup(group, consumer, {stream: own[stream]}, count=PAGE, block=block)
            entries = [entry for _, page in pages or [] for entry in page]
            if not entries and own[stream] == "0":
                own[stream] = ">"
                found = True
            for entry_id, fields in entries:
                found = True
                if fields:  # None or empty: somebody deleted it while it was pending
                    yield stream, entry_id, fields
                client.xack(stream, group, entry_id)
        if not found and not follow:
            return


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="The fields of an entry are described at the top of this file.",
    )
    parser.add_argument("streams", nargs="*", metavar="STREAM", default=["telemetry:teltonika"],
                        help="each with its shards (default: telemetry:teltonika)")
    parser.add_argument("--url", default="redis://127.0.0.1:6379/", help="redis://, or rediss:// for TLS")
    parser.add_argument("--cluster", action="store_true", help="it is a Redis Cluster")
    parser.add_argument("--ca", help="who signed the server's certificate, PEM file")
    parser.add_argument("--cert", help="client certificate, PEM file")
    parser.add_argument("--key", help="its key, PEM file")
    parser.add_argument("--from", dest="start", default="-", metavar="ID",
                        help="the first entry: an id, or milliseconds since 1970 UTC (default: all)")
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    parser.add_argument("--group", help="read as this consumer group of your own, and acknowledge")
    parser.add_argument("--consumer", default="reader-0", help="our name in it (default: reader-0)")
    given = parser.parse_args()
    if given.group in TAKEN_GROUPS:
        parser.error(f"--group {given.group} is Milepost's own: what you took would be missing there")
    return given


def main():
    given = arguments()
    try:
        import msgpack  # noqa: F401
        import redis
    except ImportError as missing:
        sys.exit(f"{missing}; do: pip install redis msgpack backports.zstd")
    tls = {name: value for name, value in (
        ("ssl_ca_certs", given.ca), ("ssl_certfile", given.cert), ("ssl_keyfile", given.key)) if value}
    kind = redis.RedisCluster if given.cluster else redis.Redis
    try:
        client = kind.from_url(given.url, protocol=2, **tls)
        streams = sorted({shard for name in given.streams for shard in shards(client, name)})
        if not streams:
            sys.exit(f"no such stream: {', '.join(given.streams)}")
        if given.group:
            entries = read_as_group(client, streams, given.group, given.consumer, given.follow)
        elif given.follow:
            entries = read(client, streams, given.start)
        else:
            entries = ((stream, entry_id, fields) for stream in streams
                       for entry_id, fields in there(client, stream, given.start))
        for stream, entry_id, fields in entries:
            for line in lines(stream, entry_id.decode(), fields):
                print(json.dumps(line), flush=True)
    except redis.RedisError as error:
        sys.exit(f"Redis: {error}")
    except (KeyboardInterrupt, BrokenPipeError):
        pass


if __name__ == "__main__":
    main()
