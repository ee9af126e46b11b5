// Lines of latitude and longitude for what is in view, so that a map without streets still has a
// measure. Pure.

const STEPS = [30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];

/** The largest step that draws at least `least` lines across `span` degrees. */
export function stepFor(span_deg: number, least = 3): number {
  return STEPS.find((step) => span_deg / step >= least) ?? STEPS[STEPS.length - 1]!;
}

/** Bounds are west, south, east, north in degrees. */
export function graticule(bounds: [number, number, number, number]): [number, number][][] {
  const [west, south, east, north] = bounds;
  const step = stepFor(Math.min(east - west, (north - south) * 2));
  const lines: [number, number][][] = [];
  const low = Math.max(-85, south - step);
  const high = Math.min(85, north + step);
  for (let i = Math.floor(west / step); i <= Math.ceil(east / step) && lines.length < 60; i++) {
    const lon = round(i * step);
    lines.push([[lon, low], [lon, high]]);
  }
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step) && lines.length < 120; i++) {
    const lat = round(i * step);
    if (Math.abs(lat) <= 85) lines.push([[west - step, lat], [east + step, lat]]);
  }
  return lines;
}

function round(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
