import { describe, expect, it } from 'vitest';
import type { TrackPoint } from '../src/api/types.ts';
import { graticule, stepFor } from '../src/core/graticule.ts';
import { place, ranked } from '../src/core/labels.ts';
import { legs, metres, sum } from '../src/core/track.ts';

describe('names on the map', () => {
  const project = (lon: number, lat: number): [number, number] => [lon, lat];
  const named = ranked([['Wide', 100, 100, 9000], ['Small', 300, 300, 10]], [['Town', 104, 100], ['Far', 500, 500]], project);
  const view = { zoom: 3, width: 400, height: 400, project };

  it('stand in view, do not touch, and come with the zoom', () => {
    expect(place(named, view).map(({ named }) => named.name)).toEqual(['Town']);
    expect(place(named, { ...view, zoom: 2 }).map(({ named }) => named.name)).toEqual(['Wide']);
    expect(place(named, { ...view, zoom: 7 }).map(({ named }) => named.name)).toEqual(['Town', 'Small']);
    expect(place(named, { ...view, zoom: 9 }).map(({ named }) => named.name)).toEqual(['Town']);
    expect(place(named, { ...view, zoom: 7 }, 1).length).toBe(1);
  });
});

describe('the grid', () => {
  it('has some lines and not too many at every zoom', () => {
    expect([stepFor(360), stepFor(10), stepFor(0.05)]).toEqual([30, 2, 0.01]);
    for (const half of [170, 20, 1, 0.05, 0.0005]) {
      const lines = graticule([25 - half, Math.max(-80, 54 - half), 25 + half, Math.min(80, 54 + half)]);
      expect(lines.length).toBeGreaterThan(3);
      expect(lines.length).toBeLessThanOrEqual(120);
      for (const line of lines) for (const [, lat] of line) expect(Math.abs(lat)).toBeLessThanOrEqual(85);
    }
  });
});

describe('a track', () => {
  const point = (minute: number, latitude: number, over: Partial<TrackPoint> = {}): TrackPoint => ({
    time: new Date(Date.parse('2026-11-22T00:00:00Z') + minute * 60_000).toISOString(),
    latitude, longitude: 25, altitude_m: 0, heading_deg: 0, speed_kmh: minute, valid: true, ...over,
  });

  it('is cut where nothing was heard, and leaves out what has no fix', () => {
    const points = [point(0, 54), point(5, 54.01), point(6, 0, { valid: false }), point(40, 54.02), point(41, 54.03)];
    const parts = legs(points);
    expect(parts.map((leg) => leg.length)).toEqual([2, 2]);
    const total = sum(points, parts);
    expect(total.distance_m).toBeCloseTo(2 * 1111.95, 0);
    expect([total.speed_max_kmh, total.invalid]).toEqual([41, 1]);
    expect(sum([], [])).toEqual({ distance_m: 0, speed_max_kmh: null, invalid: 0 });
  });

  it('measures on the sphere', () => {
    expect(metres({ latitude: 0, longitude: 0 }, { latitude: 0, longitude: 1 })).toBeCloseTo(111_195, 0);
  });
});
