import { readFileSync } from 'node:fs';
import { feature, mesh } from 'topojson-client';
import { describe, expect, test } from 'vitest';

import { cutLine, cutPolygon, type Point } from '../src/core/meridian.ts';

function area(ring: Point[]): number {
  let twice = 0;
  for (let i = 1; i < ring.length; i++) twice += ring[i - 1]![0] * ring[i]![1] - ring[i]![0] * ring[i - 1]![1];
  return Math.abs(twice / 2);
}

function isFlat(way: Point[]): boolean {
  return way.every(([lon], i) => Math.abs(lon) <= 180 && (i === 0 || Math.abs(lon - way[i - 1]![0]) < 180));
}

describe('the 180th meridian', () => {
  test('what does not touch it stays as it is', () => {
    const rings: Point[][] = [[[0, 0], [10, 0], [10, 10], [0, 0]]];
    expect(cutPolygon(rings)).toEqual([rings]);
    expect(cutLine(rings[0]!)).toEqual(rings);
  });

  test('a ring across it is two of the same area, and its hole goes with them', () => {
    const outline: Point[] = [[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]];
    const hole: Point[] = [[178, 4], [178, 6], [-178, 6], [-178, 4], [178, 4]];
    const pieces = cutPolygon([outline, hole]);
    expect(pieces.map((rings) => rings.map(area))).toEqual([[100, 4], [100, 4]]);
    expect(pieces.flat().every(isFlat)).toBe(true);
    expect(pieces.map(([ring]) => Math.sign(ring!.find(([lon]) => Math.abs(lon) < 179)![0]))).toEqual([1, -1]);
  });

  test('a ring around a pole reaches the pole', () => {
    const ring: Point[] = [[-170, -70], [-60, -70], [60, -70], [170, -70], [-170, -70]];
    const pieces = cutPolygon([ring]);
    const whole = pieces.reduce((sum, [outline]) => sum + area(outline!), 0);
    expect(whole).toBeCloseTo(360 * 19.9, 5);
    const north = cutPolygon([ring.map(([lon, lat]): Point => [lon, -lat])]);
    expect(Math.max(...north.flat(2).map(([, lat]) => lat))).toBe(89.9);
  });

  test('a line across it ends at one edge and begins at the other', () => {
    expect(cutLine([[170, 0], [-170, 20], [-160, 20]])).toEqual([[[170, 0], [180, 10]], [[-180, 10], [-170, 20], [-160, 20]]]);
    expect(cutLine([[-178, 3], [178, 5]])).toEqual([[[-178, 3], [-180, 4]], [[180, 4], [178, 5]]]);
  });

  test('nothing on the base map goes around the world', () => {
    const { topology } = JSON.parse(readFileSync(new URL('../map/world.json', import.meta.url), 'utf8'));
    const countries = topology.objects.countries;
    const shapes = (feature(topology, countries) as any).features.map((one: any) => one.geometry);
    const polygons: Point[][][] = shapes.flatMap((shape: any) => (shape.type === 'Polygon' ? [shape.coordinates] : shape.coordinates));
    const isWhole = (way: Point[]) => way.every(([lon], i) => i === 0 || Math.abs(lon - way[i - 1]![0]) < 180);
    expect(polygons.flat().every(isWhole)).toBe(false);
    const cut = polygons.flatMap(cutPolygon);
    // The way along the pole is the one that may.
    const away = (ring: Point[]) => ring.filter(([, lat]) => Math.abs(lat) < 89);
    expect(cut.flat().filter((ring) => ring.length === away(ring).length).every(isWhole)).toBe(true);
    expect(cut.flat(2).every(([lon]) => Math.abs(lon) <= 180)).toBe(true);
    const lines: Point[][] = (mesh(topology, countries) as any).coordinates;
    expect(lines.flatMap(cutLine).every(isWhole)).toBe(true);
  });
});
