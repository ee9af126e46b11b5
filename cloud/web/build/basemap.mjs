// Makes map/world.json, the offline base map, from Natural Earth data in npm packages.
//
// Out: { topology, countries: [[name, lon, lat, share of the sphere in ppm]], places: [[name, lon, lat]] }.
// The topology is that of `world-atlas` (1:50m), with nothing but each country's name in it.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { feature } from 'topojson-client';

const require = createRequire(import.meta.url);
const here = (path) => new URL(path, import.meta.url);

/** Signed area and centroid of a ring, in plain degrees: enough to place a word. */
function centre(ring) {
  let area = 0;
  let x = 0;
  let y = 0;
  for (let i = 1; i < ring.length; i++) {
    const [ax, ay] = ring[i - 1];
    const [bx, by] = ring[i];
    const cross = ax * by - bx * ay;
    area += cross;
    x += (ax + bx) * cross;
    y += (ay + by) * cross;
  }
  if (area === 0) return { area: 0, lon: ring[0][0], lat: ring[0][1] };
  return { area: Math.abs(area / 2), lon: x / (3 * area), lat: y / (3 * area) };
}

const topology = JSON.parse(readFileSync(require.resolve('world-atlas/countries-50m.json'), 'utf8'));
delete topology.objects.land;
const countries = topology.objects.countries;
countries.geometries = countries.geometries
  .filter((geometry) => geometry.type)
  .map(({ type, arcs, properties }) => ({ type, arcs, properties: { name: properties.name } }));

const labels = feature(topology, countries).features.map((country) => {
  const polygons =
    country.geometry.type === 'Polygon' ? [country.geometry.coordinates] : country.geometry.coordinates;
  const centres = polygons.map((rings) => {
    const found = centre(rings[0]);
    // A degree of longitude is shorter towards the poles.
    return { ...found, weight: found.area * Math.cos((found.lat * Math.PI) / 180) };
  });
  const largest = centres.reduce((a, b) => (b.weight > a.weight ? b : a));
  const ppm = Math.round((largest.weight / 41253) * 1e6);
  return [country.properties.name, +largest.lon.toFixed(2), +largest.lat.toFixed(2), ppm];
});
labels.sort((a, b) => b[3] - a[3] || (a[0] < b[0] ? -1 : 1));

const places = JSON.parse(readFileSync(here('../map/places.json'), 'utf8'));
writeFileSync(here('../map/world.json'), JSON.stringify({ topology, countries: labels, places }));
