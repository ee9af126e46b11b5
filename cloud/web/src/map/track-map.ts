// The map of one device's track.

import type { Feature, FeatureCollection } from 'geojson';

import type { TrackPoint } from '../api/types.ts';
import { BaseMap, type BaseOptions } from './base.ts';

export class TrackMap {
  readonly base: BaseMap;
  private ready = false;
  private legs: TrackPoint[][] = [];
  private marked: TrackPoint | null = null;

  constructor(container: HTMLElement, options: BaseOptions) {
    this.base = new BaseMap(container, options);
    const map = this.base.map;
    void this.base.ready.then(() => {
      const colours = this.base.colours;
      map.addSource('track', { type: 'geojson', data: collection([]) });
      map.addSource('ends', { type: 'geojson', data: collection([]) });
      map.addSource('mark', { type: 'geojson', data: collection([]) });
      map.addLayer({
        id: 'track',
        type: 'line',
        source: 'track',
        layout: { 'line-cap': 'round', 'line-join': 'round' },
        paint: { 'line-color': colours.track, 'line-width': 3.5 },
      });
      map.addLayer({
        id: 'ends',
        type: 'circle',
        source: 'ends',
        paint: {
          // The beginning is hollow, the end is filled.
          'circle-radius': 6,
          'circle-color': ['match', ['get', 'end'], 'start', colours.rim, colours.track],
          'circle-stroke-color': colours.track,
          'circle-stroke-width': 3,
        },
      });
      map.addLayer({
        id: 'mark',
        type: 'circle',
        source: 'mark',
        paint: { 'circle-radius': 8, 'circle-color': colours.stale, 'circle-stroke-color': colours.rim, 'circle-stroke-width': 2 },
      });
      this.ready = true;
      this.draw(true);
    });
  }

  show(legs: TrackPoint[][]): void {
    this.legs = legs;
    this.marked = null;
    if (this.ready) this.draw(true);
  }

  mark(point: TrackPoint | null): void {
    if (!this.ready || point === this.marked) return;
    this.marked = point;
    this.base.set('mark', collection(point ? [dot(point, {})] : []));
  }

  setDark(dark: boolean): void {
    this.base.setDark(dark);
    const { track, rim, stale } = this.base.colours;
    const map = this.base.map;
    if (!this.ready) return;
    map.setPaintProperty('track', 'line-color', track);
    map.setPaintProperty('ends', 'circle-stroke-color', track);
    map.setPaintProperty('ends', 'circle-color', ['match', ['get', 'end'], 'start', rim, track]);
    map.setPaintProperty('mark', 'circle-color', stale);
    map.setPaintProperty('mark', 'circle-stroke-color', rim);
  }

  remove(): void {
    this.base.remove();
  }

  private draw(fit: boolean): void {
    const lines: Feature[] = this.legs.map((leg) => ({
      type: 'Feature',
      properties: {},
      geometry: { type: 'LineString', coordinates: leg.map((p) => [p.longitude, p.latitude]) },
    }));
    this.base.set('track', collection(lines));
    const first = this.legs[0]?.[0];
    const last = this.legs.at(-1)?.at(-1);
    this.base.set('ends', collection(first && last ? [dot(first, { end: 'start' }), dot(last, { end: 'finish' })] : []));
    this.base.set('mark', collection([]));
    const all = this.legs.flat();
    if (!fit || all.length === 0) return;
    const lons = all.map((p) => p.longitude);
    const lats = all.map((p) => p.latitude);
    const least = (values: number[]) => values.reduce((a, b) => Math.min(a, b));
    const most = (values: number[]) => values.reduce((a, b) => Math.max(a, b));
    this.base.fit([least(lons), least(lats), most(lons), most(lats)], 40);
  }
}

function collection(features: Feature[]): FeatureCollection {
  return { type: 'FeatureCollection', features };
}

function dot(point: TrackPoint, properties: Record<string, string>): Feature {
  return { type: 'Feature', properties, geometry: { type: 'Point', coordinates: [point.longitude, point.latitude] } };
}
