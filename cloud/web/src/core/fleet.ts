// The state of the fleet: who is where, and what that means. Pure: told rows and the time.
//
// Invariant: a row older than the one already known, by device time, changes nothing; rows come in
// any order. Positions are kept in Web Mercator, 0 to 1, in 64 bits: 32 would be off by metres.

import type { Latest } from '../api/types.ts';
import { Trails } from './trail.ts';

export type State = 'moving' | 'stopped' | 'stale';
export const STATES: State[] = ['moving', 'stopped', 'stale'];

/** Without a position for longer than this a device is stale, milliseconds. */
export const STALE_AFTER_MS = 5 * 60_000;
/** Slower than this is standing still: what satellites make of a parked car. */
export const MOVING_KMH = 3;

export interface Vehicle {
  id: number;
  label: string;
  row: Latest;
  time_ms: number;
  /** The older of device time and arrival: a late record is old, a clock ahead proves nothing. */
  age_from_ms: number;
  x: number;
  y: number;
  /** Where it was shown before, and since when it is here: to glide. */
  fromX: number;
  fromY: number;
  moved_ms: number;
}

export function mercatorX(longitude: number): number {
  return (longitude + 180) / 360;
}

export function mercatorY(latitude: number): number {
  const bounded = Math.max(-85.051129, Math.min(85.051129, latitude));
  const s = Math.sin((bounded * Math.PI) / 180);
  return 0.5 - Math.log((1 + s) / (1 - s)) / (4 * Math.PI);
}

export function longitudeOf(x: number): number {
  return x * 360 - 180;
}

export function latitudeOf(y: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;
}

export function labelOf(row: { name: string | null; imei: string | null; ident: string | null }, id: number): string {
  return row.name || row.imei || row.ident || `device ${id}`;
}

export function stateOf(vehicle: Vehicle, now_ms: number): State {
  if (now_ms - vehicle.age_from_ms > STALE_AFTER_MS) return 'stale';
  return (vehicle.row.speed_kmh ?? 0) >= MOVING_KMH ? 'moving' : 'stopped';
}

export class Fleet {
  readonly vehicles = new Map<number, Vehicle>();
  readonly trails: Trails;
  /** Grows with every change: whoever draws compares it. */
  version = 0;
  /** Newest arrival of any row, milliseconds. */
  newest_ms = 0;

  constructor(trails = new Trails()) {
    this.trails = trails;
  }

  /** Takes rows in; gives how many were news. */
  apply(rows: readonly Latest[], now_ms: number): number {
    let news = 0;
    for (const row of rows) if (this.take(row, now_ms)) news++;
    if (news > 0) this.version++;
    return news;
  }

  private take(row: Latest, now_ms: number): boolean {
    const time_ms = Date.parse(row.time);
    const received_ms = Date.parse(row.received_at);
    if (!Number.isFinite(time_ms) || !Number.isFinite(row.latitude) || !Number.isFinite(row.longitude)) return false;
    const known = this.vehicles.get(row.device_id);
    if (known && time_ms < known.time_ms) return false;
    if (known && time_ms === known.time_ms && row.received_at === known.row.received_at) return false;
    const x = mercatorX(row.longitude);
    const y = mercatorY(row.latitude);
    const age_from_ms = Number.isFinite(received_ms) ? Math.min(time_ms, received_ms) : time_ms;
    this.newest_ms = Math.max(this.newest_ms, Number.isFinite(received_ms) ? received_ms : 0);
    if (known) {
      known.fromX = known.x;
      known.fromY = known.y;
      known.x = x;
      known.y = y;
      known.moved_ms = now_ms;
      known.time_ms = time_ms;
      known.age_from_ms = age_from_ms;
      known.row = row;
      known.label = labelOf(row, row.device_id);
    } else {
      this.vehicles.set(row.device_id, {
        id: row.device_id,
        label: labelOf(row, row.device_id),
        row,
        time_ms,
        age_from_ms,
        x,
        y,
        fromX: x,
        fromY: y,
        moved_ms: now_ms,
      });
    }
    this.trails.add(row.device_id, time_ms, x, y);
    return true;
  }

  counts(now_ms: number): Record<State, number> {
    const counts = { moving: 0, stopped: 0, stale: 0 };
    for (const vehicle of this.vehicles.values()) counts[stateOf(vehicle, now_ms)]++;
    return counts;
  }

  /** Vehicles whose label, IMEI or ident contains every word; the best known order: by label. */
  search(text: string, states: ReadonlySet<State>, now_ms: number): Vehicle[] {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found: Vehicle[] = [];
    for (const vehicle of this.vehicles.values()) {
      if (!states.has(stateOf(vehicle, now_ms))) continue;
      const hay = `${vehicle.label} ${vehicle.row.imei ?? ''} ${vehicle.row.ident ?? ''}`.toLowerCase();
      if (words.every((word) => hay.includes(word))) found.push(vehicle);
    }
    return found.sort((a, b) => (a.label < b.label ? -1 : a.label > b.label ? 1 : a.id - b.id));
  }

  /** West, south, east, north in degrees of all vehicles; null without any. */
  bounds(): [number, number, number, number] | null {
    let [west, north, east, south] = [2, 2, -1, -1];
    for (const { x, y } of this.vehicles.values()) {
      west = Math.min(west, x);
      east = Math.max(east, x);
      north = Math.min(north, y);
      south = Math.max(south, y);
    }
    if (east < west) return null;
    return [longitudeOf(west), latitudeOf(south), longitudeOf(east), latitudeOf(north)];
  }
}

/** Nearest vehicle within `radius` (Mercator), or null. */
export function nearest(fleet: Fleet, x: number, y: number, radius: number, shown: (v: Vehicle) => boolean): Vehicle | null {
  let best: Vehicle | null = null;
  let least = radius * radius;
  for (const vehicle of fleet.vehicles.values()) {
    const dx = vehicle.x - x;
    const dy = vehicle.y - y;
    const distance = dx * dx + dy * dy;
    if (distance <= least && shown(vehicle)) {
      least = distance;
      best = vehicle;
    }
  }
  return best;
}
