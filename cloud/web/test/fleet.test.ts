import { describe, expect, it } from 'vitest';
import type { Latest } from '../src/api/types.ts';
import { Fleet, latitudeOf, longitudeOf, mercatorX, mercatorY, nearest, stateOf, STALE_AFTER_MS, STATES } from '../src/core/fleet.ts';

const T = Date.parse('2026-11-22T12:00:00.000Z');

function row(device_id: number, over: Partial<Latest> = {}, at = T): Latest {
  return {
    device_id, imei: '350000000000017', ident: null, vendor: 'teltonika', name: null,
    time: new Date(at).toISOString(), received_at: new Date(at + 500).toISOString(),
    latitude: 54.6872, longitude: 25.2797, altitude_m: 112, heading_deg: 90, speed_kmh: 50, satellites: 9,
    ignition: true, movement: true, odometer_m: null, external_voltage_mv: null, ...over,
  };
}

describe('Fleet', () => {
  it('takes news and leaves out what is older or known', () => {
    const fleet = new Fleet();
    expect(fleet.apply([row(1), row(2)], 0)).toBe(2);
    expect(fleet.apply([row(1)], 0)).toBe(0);
    expect(fleet.apply([row(1, { latitude: 1 }, T - 1000)], 0)).toBe(0);
    expect(fleet.vehicles.get(1)!.row.latitude).toBe(54.6872);
    const version = fleet.version;
    expect(fleet.apply([row(1, { latitude: 54.7 }, T + 1000)], 7)).toBe(1);
    expect(fleet.version).toBe(version + 1);
    const vehicle = fleet.vehicles.get(1)!;
    expect([vehicle.fromY, vehicle.y, vehicle.moved_ms]).toEqual([mercatorY(54.6872), mercatorY(54.7), 7]);
  });

  it('leaves out rows without a place or a time', () => {
    const fleet = new Fleet();
    expect(fleet.apply([row(1, { latitude: NaN }), row(2, { time: 'soon' })], 0)).toBe(0);
    expect(fleet.vehicles.size).toBe(0);
  });

  it('tells moving, stopped and stale apart', () => {
    const fleet = new Fleet();
    fleet.apply([row(1), row(2, { speed_kmh: 2 }), row(3, {}, T - STALE_AFTER_MS - 1), row(4, { speed_kmh: null })], 0);
    expect([1, 2, 3, 4].map((id) => stateOf(fleet.vehicles.get(id)!, T))).toEqual(['moving', 'stopped', 'stale', 'stopped']);
    expect(fleet.counts(T)).toEqual({ moving: 1, stopped: 2, stale: 1 });
  });

  it('believes neither a late record nor a clock ahead to be fresh', () => {
    const fleet = new Fleet();
    // An hour late; and a clock of tomorrow, last heard ten minutes ago.
    fleet.apply([row(1, { time: new Date(T - 3_600_000).toISOString() })], 0);
    fleet.apply([row(2, { time: new Date(T + 86_400_000).toISOString(), received_at: new Date(T - 600_000).toISOString() })], 0);
    expect([1, 2].map((id) => stateOf(fleet.vehicles.get(id)!, T))).toEqual(['stale', 'stale']);
  });

  it('finds by every word of name, IMEI or ident, among the states that are shown', () => {
    const fleet = new Fleet();
    fleet.apply([row(1, { name: 'Van North 7' }), row(2, { name: 'Van South', speed_kmh: 0 }), row(3, { imei: null, ident: 'phone-1' })], 0);
    const ids = (text: string, states = STATES) => fleet.search(text, new Set(states), T).map((vehicle) => vehicle.id);
    expect(ids('van')).toEqual([1, 2]);
    expect(ids('north VAN')).toEqual([1]);
    expect(ids('phone')).toEqual([3]);
    expect(ids('van', ['stopped'])).toEqual([2]);
    expect(ids('')).toEqual([1, 2, 3]);
  });

  it('knows its bounds, and the nearest vehicle in reach', () => {
    const fleet = new Fleet();
    expect(fleet.bounds()).toBeNull();
    fleet.apply([row(1, { latitude: -10, longitude: 20 }), row(2, { latitude: 30, longitude: -40 })], 0);
    const [west, south, east, north] = fleet.bounds()!;
    expect([west, south, east, north].map((value) => Math.round(value * 1e6) / 1e6)).toEqual([-40, -10, 20, 30]);
    const near = (lon: number, lat: number, radius: number) => nearest(fleet, mercatorX(lon), mercatorY(lat), radius, () => true)?.id;
    expect(near(20.1, -10.1, 0.001)).toBe(1);
    expect(near(20.1, -10.1, 0.0001)).toBeUndefined();
    expect(nearest(fleet, mercatorX(20), mercatorY(-10), 1, (vehicle) => vehicle.id === 2)?.id).toBe(2);
  });
});

describe('Mercator', () => {
  it('goes there and back', () => {
    for (const [lon, lat] of [[0, 0], [25.2797, 54.6872], [174.7633, -36.8485], [-179.9, 84]] as const) {
      expect(longitudeOf(mercatorX(lon))).toBeCloseTo(lon, 9);
      expect(latitudeOf(mercatorY(lat))).toBeCloseTo(lat, 9);
    }
    expect([mercatorX(-180), mercatorX(180)]).toEqual([0, 1]);
    expect(mercatorY(90)).toBeCloseTo(0, 6);
  });
});
