// Which names stand on the base map, and where, without touching each other. Pure.

export interface Named {
  name: string;
  x: number;
  y: number;
  kind: 'country' | 'place';
  /** Smaller comes first. */
  rank: number;
  zoom_min: number;
}

export interface Placed {
  named: Named;
  left: number;
  top: number;
}

/** Countries show when they are wide enough for their name; places by the order of their list. */
export function ranked(
  countries: readonly [string, number, number, number][],
  places: readonly [string, number, number][],
  project: (lon: number, lat: number) => [number, number],
): Named[] {
  const named: Named[] = [];
  for (const [name, lon, lat, ppm] of countries) {
    const [x, y] = project(lon, lat);
    const zoom_min = ppm > 8000 ? 1.2 : ppm > 1500 ? 2 : ppm > 300 ? 3.2 : ppm > 40 ? 4.3 : 6;
    named.push({ name, x, y, kind: 'country', rank: 1e6 - ppm, zoom_min });
  }
  places.forEach(([name, lon, lat], index) => {
    const [x, y] = project(lon, lat);
    const zoom_min = index < 30 ? 3 : index < 100 ? 4 : 5;
    // Places keep their spots: countries can be named elsewhere, a town is where it is.
    named.push({ name, x, y, kind: 'place', rank: index, zoom_min });
  });
  return named.sort((a, b) => a.rank - b.rank);
}

interface View {
  zoom: number;
  width: number;
  height: number;
  /** Mercator to pixels. */
  project: (x: number, y: number) => [number, number];
}

/** A country is not named any more when one is deep inside it. */
const COUNTRY_ZOOM_MAX = 7.5;

export function place(all: readonly Named[], view: View, most = 60): Placed[] {
  const taken: [number, number, number, number][] = [];
  const placed: Placed[] = [];
  for (const named of all) {
    if (placed.length >= most) break;
    if (view.zoom < named.zoom_min || (named.kind === 'country' && view.zoom > COUNTRY_ZOOM_MAX)) continue;
    const [left, top] = view.project(named.x, named.y);
    if (left < 0 || top < 0 || left > view.width || top > view.height) continue;
    const half = named.name.length * (named.kind === 'country' ? 4.4 : 3.4) + 8;
    const box: [number, number, number, number] =
      named.kind === 'country' ? [left - half, top - 9, left + half, top + 9] : [left - 6, top - 9, left + 2 * half + 4, top + 9];
    if (taken.some(([l, t, r, b]) => box[0] < r && box[2] > l && box[1] < b && box[3] > t)) continue;
    taken.push(box);
    placed.push({ named, left, top });
  }
  return placed;
}
