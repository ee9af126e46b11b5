// Where each device was lately. Pure. Bounded: a ring of points for each device, so that thousands
// of devices stay within tens of megabytes however long the page is open.

/** Points for each device. With MIN_STEP_MS they reach back 10 minutes. */
export const POINTS_MAX = 120;
/** Points closer in time than this replace one another. */
export const MIN_STEP_MS = 5000;

class Ring {
  readonly times = new Float64Array(POINTS_MAX);
  readonly xy = new Float64Array(2 * POINTS_MAX);
  start = 0;
  length = 0;

  index(nth: number): number {
    return (this.start + nth) % POINTS_MAX;
  }
}

export interface TrailPoint {
  time_ms: number;
  x: number;
  y: number;
}

export class Trails {
  private readonly rings = new Map<number, Ring>();

  /** `time_ms` must not go backwards for a device; one that does is left out. */
  add(id: number, time_ms: number, x: number, y: number): void {
    let ring = this.rings.get(id);
    if (!ring) {
      ring = new Ring();
      this.rings.set(id, ring);
    }
    if (ring.length > 0) {
      const last = ring.index(ring.length - 1);
      if (time_ms < ring.times[last]!) return;
      const before = ring.length > 1 ? ring.times[ring.index(ring.length - 2)]! : -Infinity;
      // The newest point moves along until it is far enough from the one before it.
      if (ring.times[last]! - before < MIN_STEP_MS) {
        put(ring, last, time_ms, x, y);
        return;
      }
    }
    if (ring.length === POINTS_MAX) ring.start = ring.index(1);
    else ring.length++;
    put(ring, ring.index(ring.length - 1), time_ms, x, y);
  }

  /** Oldest first, not older than `since_ms`. */
  of(id: number, since_ms: number): TrailPoint[] {
    const points: TrailPoint[] = [];
    this.each(id, since_ms, (time_ms, x, y) => points.push({ time_ms, x, y }));
    return points;
  }

  /** As `of` without making a list: this runs for every device on the map. */
  each(id: number, since_ms: number, visit: (time_ms: number, x: number, y: number) => void): void {
    const ring = this.rings.get(id);
    if (!ring) return;
    for (let nth = 0; nth < ring.length; nth++) {
      const i = ring.index(nth);
      if (ring.times[i]! >= since_ms) visit(ring.times[i]!, ring.xy[2 * i]!, ring.xy[2 * i + 1]!);
    }
  }
}

function put(ring: Ring, i: number, time_ms: number, x: number, y: number): void {
  ring.times[i] = time_ms;
  ring.xy[2 * i] = x;
  ring.xy[2 * i + 1] = y;
}
