// A track of a time range: what can be drawn of it, and what it amounts to. Pure.

import type { TrackPoint } from '../api/types.ts';

/** A hole longer than this is not drawn as if it had been driven, milliseconds. */
export const HOLE_MS = 15 * 60_000;

const EARTH_M = 6_371_008.8;

export function metres(a: { latitude: number; longitude: number }, b: { latitude: number; longitude: number }): number {
  const rad = Math.PI / 180;
  const dLat = (b.latitude - a.latitude) * rad;
  const dLon = (b.longitude - a.longitude) * rad;
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(a.latitude * rad) * Math.cos(b.latitude * rad) * Math.sin(dLon / 2) ** 2;
  return 2 * EARTH_M * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** Points with a fix, cut where nothing was heard for longer than `hole_ms`. */
export function legs(points: readonly TrackPoint[], hole_ms = HOLE_MS): TrackPoint[][] {
  const all: TrackPoint[][] = [];
  let leg: TrackPoint[] = [];
  let last = -Infinity;
  for (const point of points) {
    if (point.valid === false) continue;
    const at = Date.parse(point.time);
    if (leg.length > 0 && at - last > hole_ms) {
      all.push(leg);
      leg = [];
    }
    leg.push(point);
    last = at;
  }
  if (leg.length > 0) all.push(leg);
  return all;
}

export interface Sum {
  distance_m: number;
  speed_max_kmh: number | null;
  invalid: number;
}

export function sum(points: readonly TrackPoint[], parts: readonly TrackPoint[][]): Sum {
  let distance_m = 0;
  for (const leg of parts) for (let i = 1; i < leg.length; i++) distance_m += metres(leg[i - 1]!, leg[i]!);
  let speed_max_kmh: number | null = null;
  let invalid = 0;
  for (const point of points) {
    if (point.valid === false) invalid++;
    else if (point.speed_kmh !== null) speed_max_kmh = Math.max(speed_max_kmh ?? 0, point.speed_kmh);
  }
  return { distance_m, speed_max_kmh, invalid };
}
