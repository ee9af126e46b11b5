import { expect, it } from 'vitest';
import { MIN_STEP_MS, POINTS_MAX, Trails } from '../src/core/trail.ts';

it('keeps points in order, one in a step, the newest always', () => {
  const trails = new Trails();
  for (let s = 0; s <= 12; s++) trails.add(1, s * 1000, s, s);
  expect(trails.of(1, 0).map((point) => point.time_ms)).toEqual([0, 5000, 10_000, 12_000]);
  expect(trails.of(1, 6000).map((point) => point.x)).toEqual([10, 12]);
  expect(trails.of(2, 0)).toEqual([]);
});

it('forgets the oldest when it is full', () => {
  const trails = new Trails();
  for (let i = 0; i < 3 * POINTS_MAX; i++) trails.add(1, i * MIN_STEP_MS, i, 0);
  const points = trails.of(1, 0);
  expect(points.length).toBe(POINTS_MAX);
  expect([points[0]!.x, points.at(-1)!.x]).toEqual([2 * POINTS_MAX, 3 * POINTS_MAX - 1]);
});

it('leaves out what goes back in time', () => {
  const trails = new Trails();
  trails.add(1, 10_000, 1, 1);
  trails.add(1, 3_000, 2, 2);
  expect(trails.of(1, 0).length).toBe(1);
});
