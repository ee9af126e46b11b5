// View 1: where everybody is, now.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { get } from '../api/client.ts';
import type { DeviceDetail } from '../api/types.ts';
import { stateOf, STATES, type State, type Vehicle } from '../core/fleet.ts';
import * as format from '../core/format.ts';
import { LiveMap } from '../map/live-map.ts';
import { fleet, me, now, onRows, pictured, theme } from '../state.ts';
import { useAsked, useCell, useTick } from './hooks.ts';
import { Loading, Mark, NoTracker, Trouble } from './parts.tsx';
import { ValueTable } from './values.tsx';

/** Rows of the list at once: more than anybody reads, fewer than a phone minds. */
const LIST_MAX = 100;

export function LiveView({ device }: { device: number | null }) {
  const holder = useRef<HTMLDivElement>(null);
  const map = useRef<LiveMap | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [text, setText] = useState('');
  const [shown, setShown] = useState<ReadonlySet<State>>(new Set(STATES));
  const [minutes, setMinutes] = useState(5);
  const [follow, setFollow] = useState(false);
  const dark = useCell(theme) === 'dark';
  const ready = useCell(pictured);
  useTick(1000);

  useEffect(() => {
    let made: LiveMap;
    try {
      made = new LiveMap(holder.current!, {
        fleet,
        clock: now,
        dark: theme.get() === 'dark',
        tiles: me.get()?.tiles ?? null,
        trouble: setTrouble,
        pick: (id) => (location.hash = id === null ? '#/map' : `#/map/${id}`),
      });
    } catch {
      setTrouble('This browser cannot draw the map: WebGL is switched off or missing. The list has the same vehicles.');
      return undefined;
    }
    map.current = made;
    // Whoever measures and tests looks at the map itself.
    (window as unknown as { milepost: unknown }).milepost = { map: made, fleet };
    const changed = () => made.changed();
    onRows.add(changed);
    return () => {
      onRows.delete(changed);
      made.remove();
      map.current = null;
    };
  }, []);

  useEffect(() => map.current?.setDark(dark), [dark]);

  const at = now();
  const found = useMemo(() => fleet.search(text, shown, at), [text, shown, Math.floor(at / 1000)]);
  const only = useMemo(
    () => (text.trim() === '' ? null : new Set(found.map((vehicle) => vehicle.id))),
    // The list may be sorted anew each second; the set changes with what is typed.
    [text, found.length],
  );
  useEffect(() => {
    map.current?.setLook({ shown, only, selected: device, trail_ms: minutes * 60_000 });
  }, [shown, only, device, minutes, ready]);
  useEffect(() => {
    if (device !== null) map.current?.goTo(device, 12);
  }, [device, ready]);
  const vehicle = device === null ? undefined : fleet.vehicles.get(device);
  useEffect(() => {
    if (follow && device !== null) map.current?.goTo(device, 0);
  }, [follow, vehicle?.time_ms]);

  const counts = fleet.counts(at);
  const toggle = (state: State) => {
    const next = new Set(shown);
    if (!next.delete(state)) next.add(state);
    setShown(next);
  };

  return (
    <div class={`live ${device === null ? '' : 'chosen'}`}>
      <h1 class="hidden">Live map</h1>
      <section class="map-box" aria-label="Map of all devices. The list beside it has the same devices for keyboard and screen reader.">
        <div class="map" ref={holder} />
        {trouble && <p class="note bad map-note">{trouble}</p>}
        <div class="map-tools">
          <button type="button" onClick={() => map.current?.showAll(true)}>
            Show all
          </button>
          <label>
            Trail{' '}
            <select value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
              <option value={0}>off</option>
              <option value={2}>2 min</option>
              <option value={5}>5 min</option>
              <option value={10}>10 min</option>
            </select>
          </label>
        </div>
      </section>
      <section class="side list-side" aria-label="List of devices">
        <div class="states" role="group" aria-label="Show devices that are">
          {STATES.map((state) => (
            <button type="button" key={state} class="state" aria-pressed={shown.has(state)} onClick={() => toggle(state)}>
              <Mark state={state} />
              <b>{format.count(counts[state])}</b> {state}
            </button>
          ))}
        </div>
        <label class="search">
          <span class="hidden">Search by name, IMEI or ident</span>
          <input type="search" placeholder="Name, IMEI or ident" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        {!ready ? (
          <Loading what="positions" />
        ) : fleet.vehicles.size === 0 ? (
          <NoTracker />
        ) : found.length === 0 ? (
          <p class="quiet">Nothing matches. {shown.size < STATES.length ? 'Some states are switched off above.' : 'Search for less.'}</p>
        ) : (
          <ul class="vehicles">
            {found.slice(0, LIST_MAX).map((v) => (
              <VehicleLine key={v.id} vehicle={v} at={at} chosen={v.id === device} />
            ))}
            {found.length > LIST_MAX && <li class="quiet">and {format.count(found.length - LIST_MAX)} more: search to find one</li>}
          </ul>
        )}
      </section>
      {device !== null && <Chosen id={device} vehicle={vehicle} at={at} follow={follow} setFollow={setFollow} />}
    </div>
  );
}

function VehicleLine({ vehicle, at, chosen }: { vehicle: Vehicle; at: number; chosen: boolean }) {
  const state = stateOf(vehicle, at);
  return (
    <li>
      <a href={`#/map/${vehicle.id}`} aria-current={chosen ? 'true' : undefined}>
        <Mark state={state} />
        <span class="name">{vehicle.label}</span>
        <span class="what">{state === 'moving' ? `${vehicle.row.speed_kmh} km/h` : state === 'stopped' ? 'stopped' : format.ago(vehicle.age_from_ms, at)}</span>
      </a>
    </li>
  );
}

interface ChosenProps {
  id: number;
  vehicle: Vehicle | undefined;
  at: number;
  follow: boolean;
  setFollow(follow: boolean): void;
}

function Chosen({ id, vehicle, at, follow, setFollow }: ChosenProps) {
  const asked = useAsked<DeviceDetail>(`device ${id}`, (signal) => get(`/api/v1/devices/${id}`, signal), 3000);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [id]);
  const device = asked.data?.device;
  const row = vehicle?.row ?? asked.data?.latest ?? null;
  const state = vehicle ? stateOf(vehicle, at) : null;
  return (
    <section class="side chosen-side" aria-labelledby="chosen-title">
      <header>
        <h2 id="chosen-title" tabIndex={-1} ref={heading}>
          {vehicle?.label ?? device?.name ?? device?.imei ?? `Device ${id}`}
        </h2>
        <a class="close" href="#/map" aria-label="Close the details">
          ×
        </a>
      </header>
      {state && (
        <p class="state-line">
          <Mark state={state} /> {state}
          {state === 'moving' && row ? ` at ${row.speed_kmh} km/h, heading ${format.heading(row.heading_deg)}` : ''}
        </p>
      )}
      {row ? (
        <dl class="facts">
          <dt>Position</dt>
          <dd>{format.position(row.latitude, row.longitude)}</dd>
          <dt>Its clock</dt>
          <dd>
            {format.clock(row.time)} <small>({format.ago(row.time, at)})</small>
          </dd>
          <dt>Arrived</dt>
          <dd>
            {format.clock(row.received_at)} <small>({format.ago(row.received_at, at)})</small>
          </dd>
          <dt>Altitude</dt>
          <dd>{row.altitude_m === null ? '–' : `${row.altitude_m} m`}</dd>
          <dt>Ignition</dt>
          <dd>{format.yesNo(row.ignition)}</dd>
          <dt>IMEI</dt>
          <dd>{row.imei ?? row.ident ?? '–'}</dd>
          {device?.model && (
            <>
              <dt>Model</dt>
              <dd>{device.model}</dd>
            </>
          )}
        </dl>
      ) : (
        asked.data && <p class="quiet">It has never sent a valid position.</p>
      )}
      <p class="actions">
        <a class="button" href={`#/device/${id}`}>
          Track, plots and commands
        </a>
        <label class="check">
          <input type="checkbox" checked={follow} onChange={(event) => setFollow(event.currentTarget.checked)} /> Follow
        </label>
      </p>
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.loading && <Loading what="its values" />}
      {asked.data && <ValueTable values={asked.data.values} time={asked.data.time} event={asked.data.event} />}
    </section>
  );
}
