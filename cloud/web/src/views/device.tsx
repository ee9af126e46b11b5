// View 3: one device over time: track, plots, table, files, commands.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { download, get, type Problem } from '../api/client.ts';
import type { DeviceDetail, SeriesAnswer, Track, TrackPoint } from '../api/types.ts';
import { labelOf } from '../core/fleet.ts';
import * as format from '../core/format.ts';
import { legs, sum } from '../core/track.ts';
import { TrackMap } from '../map/track-map.ts';
import { me, now, theme } from '../state.ts';
import { Commands } from './commands.tsx';
import { asProblem, useAsked, useCell } from './hooks.ts';
import { Empty, Loading, Trouble } from './parts.tsx';
import { Plot } from './plots.tsx';
import { ValueTable } from './values.tsx';

const HOUR = 3_600_000;
const SPAN_MAX_MS = 31 * 24 * HOUR;
const PRESETS: [string, number][] = [
  ['1 hour', HOUR],
  ['6 hours', 6 * HOUR],
  ['24 hours', 24 * HOUR],
  ['7 days', 7 * 24 * HOUR],
];
const PLOTS: Record<string, string> = {
  speed_kmh: 'Speed',
  altitude_m: 'Altitude',
  external_voltage: 'External voltage',
  battery_voltage: 'Battery voltage',
};
const ROWS = 200;

interface Span {
  from: number;
  to: number;
}

export function DeviceView({ id }: { id: number }) {
  const asked = useAsked<DeviceDetail>(`device ${id}`, (signal) => get(`/api/v1/devices/${id}`, signal), 5000);
  const [span, setSpan] = useState<Span>(() => ({ from: now() - 6 * HOUR, to: now() }));
  const device = asked.data?.device;
  return (
    <div class="page">
      <p class="crumbs">
        <a href="#/devices">Devices</a> / <a href={`#/map/${id}`}>on the map</a>
      </p>
      <h1>{device ? labelOf(device, id) : `Device ${id}`}</h1>
      {device && (
        <p class="quiet">
          {[device.imei ?? device.ident, device.model ?? device.family, device.vendor, `last heard ${format.ago(device.last_seen, now())}`]
            .filter(Boolean)
            .join(' · ')}
        </p>
      )}
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      <SpanForm span={span} setSpan={setSpan} />
      <TrackPart id={id} span={span} name={device ? labelOf(device, id) : String(id)} />
      <div class="two">
        <section class="card">
          <h2>Last values</h2>
          {asked.data ? <ValueTable values={asked.data.values} time={asked.data.time} event={asked.data.event} /> : !asked.problem && <Loading what="its values" />}
        </section>
        <Commands id={id} hasImei={device ? device.imei !== null : true} />
      </div>
    </div>
  );
}

function SpanForm({ span, setSpan }: { span: Span; setSpan(span: Span): void }) {
  const [from, setFrom] = useState(format.localInput(span.from));
  const [to, setTo] = useState(format.localInput(span.to));
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    setFrom(format.localInput(span.from));
    setTo(format.localInput(span.to));
  }, [span]);
  const submit = (event: Event) => {
    event.preventDefault();
    // To the end of the minute that was named.
    const next = { from: Date.parse(from), to: Date.parse(to) + 59_999 };
    if (!Number.isFinite(next.from) || !Number.isFinite(next.to)) setFault('Give a day and a time in both fields.');
    else if (next.from >= next.to) setFault('The end lies before the beginning: exchange them.');
    else if (next.to - next.from > SPAN_MAX_MS) setFault('That is longer than 31 days: take a shorter span.');
    else {
      setFault(null);
      setSpan(next);
    }
  };
  return (
    <form class="span" onSubmit={submit} aria-label="Time range">
      <div class="presets" role="group" aria-label="The last">
        {PRESETS.map(([name, ms]) => (
          <button type="button" key={name} onClick={() => setSpan({ from: now() - ms, to: now() })}>
            {name}
          </button>
        ))}
      </div>
      <label>
        From <input type="datetime-local" required value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
      </label>
      <label>
        to <input type="datetime-local" required value={to} onInput={(event) => setTo(event.currentTarget.value)} />
      </label>
      <button type="submit">Show</button>
      {fault && (
        <p class="fault" role="alert">
          {fault}
        </p>
      )}
    </form>
  );
}

function query(span: Span): string {
  return `from=${new Date(span.from).toISOString()}&to=${new Date(span.to).toISOString()}`;
}

function TrackPart({ id, span, name }: { id: number; span: Span; name: string }) {
  const range = query(span);
  const asked = useAsked<Track>(`${id} ${range}`, (signal) => get(`/api/v1/devices/${id}/track?${range}&points_max=4000`, signal));
  const series = useAsked<SeriesAnswer>(`${id} ${range}`, (signal) =>
    get(`/api/v1/devices/${id}/series?names=${Object.keys(PLOTS).join(',')}&${range}&points_max=1500`, signal),
  );
  const holder = useRef<HTMLDivElement>(null);
  const map = useRef<TrackMap | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const dark = useCell(theme) === 'dark';
  const points = asked.data?.points ?? [];
  const parts = useMemo(() => legs(points), [asked.data]);
  const total = useMemo(() => sum(points, parts), [asked.data]);
  const times = useMemo(() => points.map((point) => Date.parse(point.time)), [asked.data]);

  useEffect(() => {
    try {
      const made = new TrackMap(holder.current!, { dark: theme.get() === 'dark', tiles: me.get()?.tiles ?? null, trouble: setTrouble });
      map.current = made;
      (window as unknown as { milepost: unknown }).milepost = { map: made };
      return () => {
        made.remove();
        map.current = null;
      };
    } catch {
      setTrouble('This browser cannot draw the map: WebGL is switched off or missing. The table below has the same points.');
      return undefined;
    }
  }, []);
  useEffect(() => map.current?.setDark(dark), [dark]);
  useEffect(() => map.current?.show(parts), [parts]);

  const hover = (time_ms: number | null) => map.current?.mark(time_ms === null ? null : nearestPoint(points, times, time_ms));
  const drawn = (series.data?.series ?? []).filter((one) => one.points.length > 0);
  return (
    <>
      <section aria-label="Track on the map" class="track-box">
        <div class="map" ref={holder} />
        {trouble && <p class="note bad map-note">{trouble}</p>}
      </section>
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.loading && <Loading what="the track" />}
      {asked.data && points.length === 0 && (
        <Empty title="Nothing in this time">
          <p>This device sent no record between these times, by its own clock. Take a longer range, or look when it was last heard above.</p>
        </Empty>
      )}
      {asked.data && points.length > 0 && (
        <p class="quiet sum" role="status">
          {format.count(asked.data.rows)} records
          {asked.data.step_s !== null ? `, one in ${format.span(asked.data.step_s)} drawn` : ''}
          {` · ${(total.distance_m / 1000).toFixed(1)} km`}
          {total.speed_max_kmh !== null ? ` · up to ${total.speed_max_kmh} km/h` : ''}
          {total.invalid > 0 ? ` · ${format.count(total.invalid)} without a fix, not drawn` : ''}
          {parts.length > 1 ? ` · ${parts.length - 1} gaps longer than 15 min` : ''}
        </p>
      )}
      <Files id={id} range={range} name={name} />
      {series.problem && !asked.problem && <Trouble problem={series.problem} again={series.again} />}
      {drawn.length > 0 && (
        <section class="plots" aria-label="Plots; the table below has the numbers">
          {drawn.map((one) => (
            <Plot key={one.name} series={one} title={PLOTS[one.name] ?? one.name} hover={hover} />
          ))}
        </section>
      )}
      {points.length > 0 && <PointTable points={points} />}
    </>
  );
}

function nearestPoint(points: TrackPoint[], times: number[], time_ms: number): TrackPoint | null {
  let [low, high] = [0, times.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! < time_ms) low = middle + 1;
    else high = middle;
  }
  return points[low] ?? null;
}

function Files({ id, range, name }: { id: number; range: string; name: string }) {
  const [busy, setBusy] = useState<string | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const save = async (kind: 'csv' | 'gpx') => {
    setBusy(kind);
    setProblem(null);
    try {
      await download(`/api/v1/devices/${id}/track.${kind}?${range}`, `track-${name.replace(/[^\w-]+/g, '-')}.${kind}`);
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(null);
  };
  return (
    <div class="files">
      <button type="button" disabled={busy !== null} onClick={() => void save('csv')}>
        {busy === 'csv' ? 'Fetching …' : 'Download CSV'}
      </button>
      <button type="button" disabled={busy !== null} onClick={() => void save('gpx')}>
        {busy === 'gpx' ? 'Fetching …' : 'Download GPX'}
      </button>
      <span class="quiet">all records of this time, none left out</span>
      {problem && <Trouble problem={problem} />}
    </div>
  );
}

function PointTable({ points }: { points: TrackPoint[] }) {
  const [rows, setRows] = useState(ROWS);
  const newest = points.slice().reverse().slice(0, rows);
  return (
    <details class="card">
      <summary>Table of {format.count(points.length)} points</summary>
      <div class="scroll tall" tabIndex={0} role="region" aria-label="Points of the track, the newest first">
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Position</th>
              <th scope="col" class="number">
                Speed
              </th>
              <th scope="col" class="number">
                Altitude
              </th>
              <th scope="col">Heading</th>
            </tr>
          </thead>
          <tbody>
            {newest.map((point, i) => (
              <tr key={`${point.time} ${i}`}>
                <td>{format.moment(point.time)}</td>
                <td>{point.valid === false ? 'no fix' : format.position(point.latitude, point.longitude)}</td>
                <td class="number">{point.speed_kmh === null ? '–' : `${point.speed_kmh} km/h`}</td>
                <td class="number">{point.altitude_m === null ? '–' : `${point.altitude_m} m`}</td>
                <td>{format.heading(point.heading_deg)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {points.length > rows && (
        <button type="button" onClick={() => setRows(rows + 1000)}>
          Show more
        </button>
      )}
    </details>
  );
}
