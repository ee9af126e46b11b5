// Rings and lines that go across the 180th meridian, or around a pole, cut so that a flat map can draw
// them. Pure.
//
// Why: the base map's shapes are those of a globe, where that meridian is no edge. Drawn flat, the way
// from 179° to -179° would go once around the world.

export type Point = [number, number];

/** What stands for a pole, whose height on this map has no end. */
const POLE = 89.9;

/** The same way with longitudes that run on beyond 180° instead of jumping. */
function unrolled(way: Point[]): Point[] {
  let turn = 0;
  return way.map(([lon, lat], i) => {
    const step = i === 0 ? 0 : lon - way[i - 1]![0];
    if (step > 180) turn -= 360;
    if (step < -180) turn += 360;
    return [lon + turn, lat];
  });
}

function jumps(way: Point[]): boolean {
  return way.some(([lon], i) => i > 0 && Math.abs(lon - way[i - 1]![0]) > 180);
}

/** The point between two at which the longitude is `lon`. */
function at(lon: number, [aLon, aLat]: Point, [bLon, bLat]: Point): Point {
  return [lon, aLat + ((bLat - aLat) * (lon - aLon)) / (bLon - aLon)];
}

/** The part of a ring on one side of a meridian. `side` 1: east of it, -1: west. */
function half(ring: Point[], lon: number, side: 1 | -1): Point[] {
  const inside = (point: Point) => side * (point[0] - lon) >= 0;
  const kept: Point[] = [];
  for (let i = 1; i < ring.length; i++) {
    const [a, b] = [ring[i - 1]!, ring[i]!];
    if (inside(a) !== inside(b)) kept.push(at(lon, a, b));
    if (inside(b)) kept.push(b);
  }
  if (kept.length > 0) kept.push(kept[0]!);
  return kept;
}

/** The turns around the world that a way is in: 0 is that from -180° to 180°. */
function turns(way: Point[]): number[] {
  const all = way.map(([lon]) => lon);
  const low = Math.floor((Math.min(...all) + 180) / 360);
  const high = Math.ceil((Math.max(...all) - 180) / 360);
  return Array.from({ length: Math.max(1, high - low + 1) }, (_, i) => low + i);
}

/** A ring around a pole ends one turn from where it began: closed by way of the pole. */
function closed(way: Point[]): Point[] {
  const [first, last] = [way[0]!, way[way.length - 1]!];
  if (Math.abs(last[0] - first[0]) < 180) return way;
  const pole = Math.sign(way.reduce((sum, [, lat]) => sum + lat, 0)) * POLE;
  return [...way, [last[0], pole], [first[0], pole], first];
}

/** A polygon (its outline, then its holes) as polygons within -180° and 180°. */
export function cutPolygon(rings: Point[][]): Point[][][] {
  if (!rings.some(jumps)) return [rings];
  const ways = rings.map((ring) => closed(unrolled(ring)));
  const pieces = turns(ways[0]!).map((turn) => {
    const [west, east] = [turn * 360 - 180, turn * 360 + 180];
    const cut = ways.map((way) => half(half(way, west, 1), east, -1));
    return cut.filter((ring) => ring.length > 3).map((ring) => ring.map(([lon, lat]): Point => [lon - turn * 360, lat]));
  });
  return pieces.filter((piece) => piece.length > 0);
}

/** A line as lines, none of which jumps. */
export function cutLine(line: Point[]): Point[][] {
  const lines: Point[][] = [line.slice(0, 1)];
  for (let i = 1; i < line.length; i++) {
    const [a, b] = [line[i - 1]!, line[i]!];
    if (Math.abs(b[0] - a[0]) > 180) {
      const edge = a[0] > 0 ? 180 : -180;
      const beyond: Point = [b[0] + 2 * edge, b[1]];
      const [, lat] = beyond[0] === a[0] ? a : at(edge, a, beyond);
      lines[lines.length - 1]!.push([edge, lat]);
      lines.push([[-edge, lat]]);
    }
    lines[lines.length - 1]!.push(b);
  }
  return lines.filter((one) => one.length > 1);
}
