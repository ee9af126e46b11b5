// The map below everything: land, borders, names and a grid, all from files of this page; street
// tiles only where the cloud names a server for them.

import maplibregl from 'maplibre-gl/dist/maplibre-gl-csp.js';
import workerUrl from 'maplibre-gl/dist/maplibre-gl-csp-worker.js?url';
import 'maplibre-gl/dist/maplibre-gl.css';
import type { Map as MapLibre, StyleSpecification } from 'maplibre-gl';
import type { Feature, FeatureCollection, Geometry, MultiLineString, MultiPolygon, Polygon } from 'geojson';
import { feature, mesh } from 'topojson-client';
import type { GeometryCollection, Topology } from 'topojson-specification';

import { mercatorX, mercatorY } from '../core/fleet.ts';
import { graticule } from '../core/graticule.ts';
import { place, ranked, type Named } from '../core/labels.ts';
import { cutLine, cutPolygon, type Point } from '../core/meridian.ts';
import worldUrl from '../../map/world.json?url';
import { DARK, LIGHT, type Palette } from './palette.ts';

maplibregl.setWorkerUrl(workerUrl);

interface World {
  topology: Topology<{ countries: GeometryCollection<{ name: string }> }>;
  countries: [string, number, number, number][];
  places: [string, number, number][];
}

interface BaseData {
  land: FeatureCollection;
  borders: Feature;
  coast: Feature;
  named: Named[];
}

let base: Promise<BaseData> | null = null;

/** Fetched and unpacked once for all maps. */
function baseData(): Promise<BaseData> {
  base ??= (async () => {
    const answer = await fetch(worldUrl);
    if (!answer.ok) throw new Error(`the base map: ${answer.status}`);
    const world = (await answer.json()) as World;
    const countries = world.topology.objects.countries;
    const shape = (geometry: Geometry): Feature => ({ type: 'Feature', properties: {}, geometry });
    const flat = ({ geometry }: Feature): Feature => {
      const { coordinates } = geometry as Polygon | MultiPolygon;
      const polygons = (geometry.type === 'Polygon' ? [coordinates] : coordinates) as Point[][][];
      return shape({ type: 'MultiPolygon', coordinates: polygons.flatMap(cutPolygon) });
    };
    const lines = ({ coordinates }: MultiLineString): Feature =>
      shape({ type: 'MultiLineString', coordinates: (coordinates as Point[][]).flatMap(cutLine) });
    const shapes = feature(world.topology, countries) as FeatureCollection;
    return {
      land: { type: 'FeatureCollection', features: shapes.features.map(flat) },
      borders: lines(mesh(world.topology, countries, (a, b) => a !== b)),
      coast: lines(mesh(world.topology, countries, (a, b) => a === b)),
      named: ranked(world.countries, world.places, (lon, lat) => [mercatorX(lon), mercatorY(lat)]),
    };
  })();
  base.catch(() => (base = null));
  return base;
}

const NOTHING: FeatureCollection = { type: 'FeatureCollection', features: [] };

function style(colours: Palette, tiles: string | null): StyleSpecification {
  const made: StyleSpecification = {
    version: 8,
    sources: {
      land: { type: 'geojson', data: NOTHING, tolerance: 0.5 },
      borders: { type: 'geojson', data: NOTHING },
      coast: { type: 'geojson', data: NOTHING },
      grid: { type: 'geojson', data: NOTHING },
    },
    layers: [
      { id: 'water', type: 'background', paint: { 'background-color': colours.water } },
      { id: 'land', type: 'fill', source: 'land', paint: { 'fill-color': colours.land, 'fill-antialias': false } },
      { id: 'grid', type: 'line', source: 'grid', paint: { 'line-color': colours.grid, 'line-width': 1 } },
      { id: 'coast', type: 'line', source: 'coast', paint: { 'line-color': colours.coast, 'line-width': 0.8 } },
      { id: 'borders', type: 'line', source: 'borders', paint: { 'line-color': colours.border, 'line-width': 1 } },
    ],
  };
  if (tiles !== null) {
    made.sources['tiles'] = { type: 'raster', tiles: [tiles], tileSize: 256, maxzoom: 19 };
    made.layers.push({ id: 'tiles', type: 'raster', source: 'tiles' });
  }
  return made;
}

export interface BaseOptions {
  dark: boolean;
  tiles: string | null;
  /** Told in words when the map cannot be drawn. */
  trouble: (words: string) => void;
}

export class BaseMap {
  readonly map: MapLibre;
  colours: Palette;
  /** Style and base map are there. */
  readonly ready: Promise<void>;
  private readonly labels: HTMLElement;
  private readonly pool: HTMLElement[] = [];
  private named: Named[] = [];
  private readonly tiles: boolean;
  private removed = false;

  constructor(container: HTMLElement, options: BaseOptions) {
    this.colours = options.dark ? DARK : LIGHT;
    this.tiles = options.tiles !== null;
    this.map = new maplibregl.Map({
      container,
      style: style(this.colours, options.tiles),
      center: [12, 30],
      zoom: 1.6,
      minZoom: 1,
      maxZoom: 19,
      renderWorldCopies: false,
      attributionControl: { compact: true, customAttribution: 'Natural Earth' },
      dragRotate: false,
      pitchWithRotate: false,
      fadeDuration: 0,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.addControl(new maplibregl.NavigationControl({ showCompass: false }), 'top-right');
    this.map.addControl(new maplibregl.ScaleControl({ maxWidth: 120 }), 'bottom-left');
    this.labels = document.createElement('div');
    this.labels.className = 'map-labels';
    this.labels.setAttribute('aria-hidden', 'true');
    container.querySelector('.maplibregl-canvas-container')?.append(this.labels);
    this.map.on('error', (event) => {
      const words = event.error?.message ?? '';
      // One tile that is missing is nothing to be told.
      if (!/tile|AJAXError|fetch/i.test(words)) options.trouble(`The map: ${words}`);
    });
    this.map.on('move', () => this.placeLabels());
    this.map.on('resize', () => this.placeLabels());
    this.map.on('moveend', () => this.drawGrid());
    const loaded = new Promise<void>((done) => {
      this.map.once('style.load', () => done());
    });
    this.ready = Promise.all([baseData(), loaded]).then(
      ([data]) => {
        // Somebody left before it was read: nobody may draw on what is gone.
        if (this.removed) return new Promise<never>(() => undefined);
        this.set('land', data.land);
        this.set('borders', data.borders);
        this.set('coast', data.coast);
        this.named = data.named;
        this.placeLabels();
        this.drawGrid();
        return undefined;
      },
      (error: unknown) => {
        if (this.removed) return new Promise<never>(() => undefined);
        options.trouble(`The base map could not be read (${String(error)}). Reload the page; vehicles are shown without it.`);
        return undefined;
      },
    );
  }

  setDark(dark: boolean): void {
    this.colours = dark ? DARK : LIGHT;
    const paint: [string, string, string][] = [
      ['water', 'background-color', this.colours.water],
      ['land', 'fill-color', this.colours.land],
      ['grid', 'line-color', this.colours.grid],
      ['coast', 'line-color', this.colours.coast],
      ['borders', 'line-color', this.colours.border],
    ];
    for (const [layer, property, value] of paint) {
      if (this.map.getLayer(layer)) this.map.setPaintProperty(layer, property, value);
    }
  }

  set(source: string, data: FeatureCollection | Feature): void {
    const found = this.map.getSource(source);
    if (found && 'setData' in found) (found as unknown as { setData(data: unknown): void }).setData(data);
  }

  /** Bounds west, south, east, north; a single place gets some room around it. */
  fit(bounds: [number, number, number, number], padding = 60, animate = false): void {
    const [west, south, east, north] = bounds;
    const box = this.map.getContainer();
    const room = Math.max(8, Math.min(padding, box.clientWidth / 5, box.clientHeight / 5));
    this.map.fitBounds([west, south, east, north], { padding: room, maxZoom: 14, animate });
  }

  remove(): void {
    this.removed = true;
    this.map.remove();
  }

  private drawGrid(): void {
    if (this.tiles) return;
    const b = this.map.getBounds();
    const lines = graticule([b.getWest(), b.getSouth(), b.getEast(), b.getNorth()]);
    this.set('grid', { type: 'Feature', properties: {}, geometry: { type: 'MultiLineString', coordinates: lines } });
  }

  private placeLabels(): void {
    // Street tiles bring their own names.
    if (this.tiles || this.named.length === 0) return;
    const canvas = this.map.getCanvas();
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const zoom = this.map.getZoom();
    const world = 512 * 2 ** zoom;
    const centre = this.map.getCenter();
    const [cx, cy] = [mercatorX(centre.lng), mercatorY(centre.lat)];
    const placed = place(this.named, {
      zoom,
      width,
      height,
      project: (x, y) => [(x - cx) * world + width / 2, (y - cy) * world + height / 2],
    });
    placed.forEach(({ named, left, top }, i) => {
      let label = this.pool[i];
      if (!label) {
        label = document.createElement('span');
        this.pool.push(label);
        this.labels.append(label);
      }
      if (label.textContent !== named.name) label.textContent = named.name;
      if (label.className !== named.kind) label.className = named.kind;
      label.hidden = false;
      label.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    });
    for (let i = placed.length; i < this.pool.length; i++) this.pool[i]!.hidden = true;
  }
}
